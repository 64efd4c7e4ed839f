"""The ops that a model may have without being trusted: each computes, and touches nothing else.

An allowlist: an op that nobody has judged is refused with its name. Chosen from the 1,910 ops of
TensorFlow 2.21: what all of `keras.applications` use, in training too (38 ops), and what computes
as those do. Not among them, though they only compute: tf.data, StableHLO (XlaCallModule, whose
custom calls run what they name, and end the process where they are malformed), queues, and whatever
reads a tensor of any type from bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

Reason = Literal[
    "reads files",
    "writes files",
    "writes to the terminal or files",
    "uses the network",
    "runs Python",
    "runs code that cannot be checked",
    "ends the process",
    "unknown to this TensorFlow",
    "not known to be harmless",
]

# By their full names, sorted by what they are for.
_HARMLESS: Mapping[str, str] = {
    "as image models use them: convolution, normalisation, pooling, activation": """
        AvgPool AvgPool3D AvgPool3DGrad AvgPoolGrad BatchNormWithGlobalNormalization
        BlockLSTM BlockLSTMV2 CTCBeamSearchDecoder CTCGreedyDecoder DenseCountSparseOutput
        GRUBlockCell GenerateBoundingBoxProposals LSTMBlockCell
        BatchNormWithGlobalNormalizationGrad BiasAdd BiasAddGrad BiasAddV1 Conv Conv2D
        Conv2DBackpropFilter Conv2DBackpropFilterV2 Conv2DBackpropInput Conv2DBackpropInputV2
        Conv3D Conv3DBackpropFilter Conv3DBackpropFilterV2 Conv3DBackpropInput
        Conv3DBackpropInputV2 CudnnRNN CudnnRNNCanonicalToParams CudnnRNNCanonicalToParamsV2
        CudnnRNNParamsSize CudnnRNNV2 CudnnRNNV3 DepthwiseConv2dNative
        DepthwiseConv2dNativeBackpropFilter DepthwiseConv2dNativeBackpropInput Dilation2D
        Dilation2DBackpropFilter Dilation2DBackpropInput Elu EluGrad FractionalAvgPool
        FractionalAvgPoolGrad FractionalMaxPool FractionalMaxPoolGrad FusedBatchNorm
        FusedBatchNormGrad FusedBatchNormGradV2 FusedBatchNormGradV3 FusedBatchNormV2
        FusedBatchNormV3 FusedPadConv2D FusedResizeAndPadConv2D InTopK InTopKV2 L2Loss LRN
        LRNGrad LeakyRelu LeakyReluGrad LogSoftmax MaxPool MaxPool3D MaxPool3DGrad
        MaxPool3DGradGrad MaxPoolGrad MaxPoolGradGrad MaxPoolGradGradV2
        MaxPoolGradGradWithArgmax MaxPoolGradV2 MaxPoolGradWithArgmax MaxPoolV2
        MaxPoolWithArgmax QuantizedAvgPool QuantizedBatchNormWithGlobalNormalization
        QuantizedBiasAdd QuantizedConv2D QuantizedConv2DAndRelu
        QuantizedConv2DAndReluAndRequantize QuantizedConv2DAndRequantize
        QuantizedConv2DPerChannel QuantizedConv2DWithBias QuantizedConv2DWithBiasAndRelu
        QuantizedConv2DWithBiasAndReluAndRequantize QuantizedConv2DWithBiasAndRequantize
        QuantizedConv2DWithBiasSignedSumAndReluAndRequantize QuantizedConv2DWithBiasSumAndRelu
        QuantizedConv2DWithBiasSumAndReluAndRequantize QuantizedDepthwiseConv2D
        QuantizedDepthwiseConv2DWithBias QuantizedDepthwiseConv2DWithBiasAndRelu
        QuantizedDepthwiseConv2DWithBiasAndReluAndRequantize QuantizedMatMulWithBiasAndRelu
        QuantizedMatMulWithBiasAndReluAndRequantize QuantizedMaxPool QuantizedRelu
        QuantizedRelu6 QuantizedReluX Relu Relu6 Relu6Grad ReluGrad Selu SeluGrad Sigmoid
        SigmoidGrad Softmax SoftmaxCrossEntropyWithLogits Softplus SoftplusGrad Softsign
        SoftsignGrad SparseSoftmax SparseSoftmaxCrossEntropyWithLogits Tanh TanhGrad
        UniformQuantizedConvolution UniformQuantizedConvolutionHybrid""",
    "images": """
        AdjustContrast AdjustContrastv2 AdjustHue AdjustSaturation CombinedNonMaxSuppression
        CropAndResize CropAndResizeGradBoxes CropAndResizeGradImage DecodeAndCropJpeg
        DecodeBase64 DecodeBmp DecodeGif DecodeImage DecodeJpeg DecodePaddedRaw DecodePng
        DecodeRaw DecodeWebP DrawBoundingBoxes DrawBoundingBoxesV2 EncodeBase64 EncodeJpeg
        EncodeJpegVariableQuality EncodePng ExtractGlimpse ExtractGlimpseV2 ExtractImagePatches
        ExtractJpegShape ExtractVolumePatches HSVToRGB ImageProjectiveTransformV2
        ImageProjectiveTransformV3 ImageSummary NonMaxSuppression NonMaxSuppressionV2
        NonMaxSuppressionV3 NonMaxSuppressionV4 NonMaxSuppressionV5
        NonMaxSuppressionWithOverlaps QuantizedResizeBilinear RGBToHSV RandomCrop ResizeArea
        ResizeBicubic ResizeBicubicGrad ResizeBilinear ResizeBilinearGrad ResizeNearestNeighbor
        ResizeNearestNeighborGrad SampleDistortedBoundingBox SampleDistortedBoundingBoxV2
        ScaleAndTranslate ScaleAndTranslateGrad StatelessSampleDistortedBoundingBox
        TensorListResize UnicodeDecode UnicodeDecodeWithOffsets""",
    "fixed point": """
        FakeQuantWithMinMaxArgs FakeQuantWithMinMaxArgsGradient FakeQuantWithMinMaxVars
        FakeQuantWithMinMaxVarsGradient FakeQuantWithMinMaxVarsPerChannel
        FakeQuantWithMinMaxVarsPerChannelGradient QuantizeAndDequantize QuantizeAndDequantizeV2
        QuantizeAndDequantizeV3 QuantizeAndDequantizeV4 QuantizeAndDequantizeV4Grad
        QuantizeDownAndShrinkRange QuantizeV2 QuantizedAdd QuantizedConcat QuantizedConcatV2
        QuantizedInstanceNorm QuantizedMatMul QuantizedMatMulWithBias
        QuantizedMatMulWithBiasAndDequantize QuantizedMatMulWithBiasAndRequantize QuantizedMul
        QuantizedReshape RequantizationRange RequantizationRangePerChannel Requantize
        RequantizePerChannel UniformQuantize UniformQuantizedAdd UniformQuantizedClipByValue
        UniformQuantizedDot UniformQuantizedDotHybrid UniformRequantize""",
    "linear algebra and transforms": """
        BandedTriangularSolve BatchCholesky BatchCholeskyGrad BatchFFT BatchFFT2D BatchFFT3D
        BatchIFFT BatchIFFT2D BatchIFFT3D BatchMatMul BatchMatMulV2 BatchMatMulV3
        BatchMatrixBandPart BatchMatrixDeterminant BatchMatrixDiag BatchMatrixDiagPart
        BatchMatrixInverse BatchMatrixSetDiag BatchMatrixSolve BatchMatrixSolveLs
        BatchMatrixTriangularSolve BatchSelfAdjointEig BatchSelfAdjointEigV2 BatchSvd Cholesky
        CholeskyGrad Cross Diag DiagPart Eig Einsum FFT FFT2D FFT3D FFTND IFFT IFFT2D IFFT3D
        IFFTND IRFFT IRFFT2D IRFFT3D IRFFTND LogMatrixDeterminant Lu MatMul MatrixBandPart
        MatrixDeterminant MatrixDiag MatrixDiagPart MatrixDiagPartV2 MatrixDiagPartV3
        MatrixDiagV2 MatrixDiagV3 MatrixExponential MatrixInverse MatrixLogarithm MatrixSetDiag
        MatrixSetDiagV2 MatrixSetDiagV3 MatrixSolve MatrixSolveLs MatrixSquareRoot
        MatrixTriangularSolve Qr RFFT RFFT2D RFFT3D RFFTND SelfAdjointEig SelfAdjointEigV2
        SparseMatMul SparseTensorDenseMatMul Svd TridiagonalMatMul TridiagonalSolve""",
    "text, and examples as records": """
        AsString EditDistance ParseExample ParseExampleV2 ParseSequenceExample
        ParseSequenceExampleV2 ParseSingleExample ParseSingleSequenceExample ReduceJoin
        RegexFullMatch RegexReplace ShardedFilename StaticRegexFullMatch StaticRegexReplace
        StringFormat StringJoin StringLength StringLower StringNGrams StringSplit StringSplitV2
        StringStrip StringToHashBucket StringToHashBucketFast StringToHashBucketStrong
        StringToNumber StringUpper Substr UnicodeEncode UnicodeScript UnicodeTranscode
        UnsortedSegmentJoin""",
    "variables, and what training does to them": """
        ApplyAdaMax ApplyAdadelta ApplyAdagrad ApplyAdagradDA ApplyAdagradV2 ApplyAdam
        ApplyAddSign ApplyCenteredRMSProp ApplyFtrl ApplyFtrlV2 ApplyGradientDescent
        ApplyMomentum ApplyPowerSign ApplyProximalAdagrad ApplyProximalGradientDescent
        ApplyRMSProp Assign AssignAdd AssignAddVariableOp AssignSub AssignSubVariableOp
        AssignVariableOp DestroyResourceOp DisableCopyOnRead IsVariableInitialized
        ReadVariableOp ResourceApplyAdaMax ResourceApplyAdadelta ResourceApplyAdagrad
        ResourceApplyAdagradDA ResourceApplyAdagradV2 ResourceApplyAdam
        ResourceApplyAdamWithAmsgrad ResourceApplyAddSign ResourceApplyCenteredRMSProp
        ResourceApplyFtrl ResourceApplyFtrlV2 ResourceApplyGradientDescent
        ResourceApplyKerasMomentum ResourceApplyMomentum ResourceApplyPowerSign
        ResourceApplyProximalAdagrad ResourceApplyProximalGradientDescent ResourceApplyRMSProp
        ResourceGather ResourceGatherNd ResourceScatterAdd ResourceScatterDiv ResourceScatterMax
        ResourceScatterMin ResourceScatterMul ResourceScatterNdAdd ResourceScatterNdMax
        ResourceScatterNdMin ResourceScatterNdSub ResourceScatterNdUpdate ResourceScatterSub
        ResourceScatterUpdate ResourceSparseApplyAdadelta ResourceSparseApplyAdagrad
        ResourceSparseApplyAdagradDA ResourceSparseApplyAdagradV2
        ResourceSparseApplyCenteredRMSProp ResourceSparseApplyFtrl ResourceSparseApplyFtrlV2
        ResourceSparseApplyKerasMomentum ResourceSparseApplyMomentum
        ResourceSparseApplyProximalAdagrad ResourceSparseApplyProximalGradientDescent
        ResourceSparseApplyRMSProp ResourceStridedSliceAssign ScatterAdd ScatterDiv ScatterMax
        ScatterMin ScatterMul ScatterNdAdd ScatterNdMax ScatterNdMin ScatterNdSub
        ScatterNdUpdate ScatterSub ScatterUpdate SparseApplyAdadelta SparseApplyAdagrad
        SparseApplyAdagradDA SparseApplyAdagradV2 SparseApplyCenteredRMSProp SparseApplyFtrl
        SparseApplyFtrlV2 SparseApplyMomentum SparseApplyProximalAdagrad
        SparseApplyProximalGradientDescent SparseApplyRMSProp VarHandleOp VarIsInitializedOp
        Variable VariableShape VariableV2""",
    "tables": """
        AnonymousHashTable AnonymousMutableDenseHashTable AnonymousMutableHashTable
        AnonymousMutableHashTableOfTensors HashTable HashTableV2 InitializeTable
        InitializeTableV2 LookupTableExport LookupTableExportV2 LookupTableFind
        LookupTableFindV2 LookupTableImport LookupTableImportV2 LookupTableInsert
        LookupTableInsertV2 LookupTableRemoveV2 LookupTableSize LookupTableSizeV2
        MutableDenseHashTable MutableDenseHashTableV2 MutableHashTable MutableHashTableOfTensors
        MutableHashTableOfTensorsV2 MutableHashTableV2""",
    "random numbers": """
        Multinomial NonDeterministicInts ParameterizedTruncatedNormal RandomGamma
        RandomGammaGrad RandomIndexShuffle RandomPoisson RandomPoissonV2 RandomShuffle
        RandomStandardNormal RandomUniform RandomUniformInt RngReadAndSkip RngSkip
        StatefulRandomBinomial StatefulStandardNormal StatefulStandardNormalV2
        StatefulTruncatedNormal StatefulUniform StatefulUniformFullInt StatefulUniformInt
        StatelessMultinomial StatelessParameterizedTruncatedNormal StatelessRandomBinomial
        StatelessRandomGammaV2 StatelessRandomGammaV3 StatelessRandomGetAlg
        StatelessRandomGetKeyCounter StatelessRandomGetKeyCounterAlg StatelessRandomNormal
        StatelessRandomNormalV2 StatelessRandomPoisson StatelessRandomUniform
        StatelessRandomUniformFullInt StatelessRandomUniformFullIntV2 StatelessRandomUniformInt
        StatelessRandomUniformIntV2 StatelessRandomUniformV2 StatelessShuffle
        StatelessTruncatedNormal StatelessTruncatedNormalV2 TruncatedNormal UniformDequantize""",
    "ragged and sparse tensors, sets": """
        DenseToDenseSetOperation DenseToSparseSetOperation RaggedBincount RaggedCross
        RaggedFillEmptyRows RaggedFillEmptyRowsGrad RaggedGather RaggedRange
        RaggedTensorFromVariant RaggedTensorToSparse RaggedTensorToTensor RaggedTensorToVariant
        RaggedTensorToVariantGradient SerializeManySparse SerializeSparse SetSize SparseAdd
        SparseAddGrad SparseBincount SparseConcat SparseCross SparseCrossHashed SparseCrossV2
        SparseDenseCwiseAdd SparseDenseCwiseDiv SparseDenseCwiseMul SparseFillEmptyRows
        SparseFillEmptyRowsGrad SparseReduceMax SparseReduceMaxSparse SparseReduceSum
        SparseReduceSumSparse SparseReorder SparseReshape SparseSegmentMean
        SparseSegmentMeanGrad SparseSegmentMeanGradV2 SparseSegmentMeanWithNumSegments
        SparseSegmentSqrtN SparseSegmentSqrtNGrad SparseSegmentSqrtNGradV2
        SparseSegmentSqrtNWithNumSegments SparseSegmentSum SparseSegmentSumGrad
        SparseSegmentSumGradV2 SparseSegmentSumWithNumSegments SparseSlice SparseSliceGrad
        SparseSparseMaximum SparseSparseMinimum SparseSplit SparseTensorDenseAdd SparseToDense
        SparseToSparseSetOperation TensorListSetItem""",
    "lists and arrays of tensors": """
        EmptyTensorList TensorArray TensorArrayClose TensorArrayCloseV2 TensorArrayCloseV3
        TensorArrayConcat TensorArrayConcatV2 TensorArrayConcatV3 TensorArrayGather
        TensorArrayGatherV2 TensorArrayGatherV3 TensorArrayGrad TensorArrayGradV2
        TensorArrayGradV3 TensorArrayGradWithShape TensorArrayPack TensorArrayRead
        TensorArrayReadV2 TensorArrayReadV3 TensorArrayScatter TensorArrayScatterV2
        TensorArrayScatterV3 TensorArraySize TensorArraySizeV2 TensorArraySizeV3
        TensorArraySplit TensorArraySplitV2 TensorArraySplitV3 TensorArrayUnpack TensorArrayV2
        TensorArrayV3 TensorArrayWrite TensorArrayWriteV2 TensorArrayWriteV3 TensorListConcat
        TensorListConcatLists TensorListConcatV2 TensorListElementShape TensorListFromTensor
        TensorListGather TensorListGetItem TensorListLength TensorListPopBack TensorListPushBack
        TensorListPushBackBatch TensorListReserve TensorListScatter
        TensorListScatterIntoExistingList TensorListScatterV2 TensorListSplit TensorListStack""",
    "calls, branches, loops and what checks": """
        Assert Case CheckNumerics CheckNumericsV2 Const ControlTrigger DeviceIndex Empty
        EnsureShape Enter Exit FakeParam GuaranteeConst HistogramSummary Identity IdentityN If
        LoopCond Merge MergeSummary NextIteration NoOp PartitionedCall Placeholder PlaceholderV2
        PlaceholderWithDefault PreventGradient RefEnter RefExit RefIdentity RefMerge
        RefNextIteration RefSelect RefSwitch ScalarSummary StatefulPartitionedCall StatelessCase
        StatelessIf StatelessWhile StopGradient Switch While""",
    "arrays and numbers": """
        Abs AccumulateNV2 Acos Acosh Add AddN AddV2 All Angle Any ApproxTopK ApproximateEqual
        ArgMax ArgMin Asin Asinh Atan Atan2 Atanh BatchToSpace BatchToSpaceND BesselI0 BesselI0e
        BesselI1 BesselI1e BesselJ0 BesselJ1 BesselK0 BesselK0e BesselK1 BesselK1e BesselY0
        BesselY1 Betainc Bincount Bitcast BitwiseAnd BitwiseOr BitwiseXor BroadcastArgs
        BroadcastGradientArgs BroadcastTo Bucketize Cast Ceil ClipByValue Complex ComplexAbs
        Concat ConcatOffset ConcatV2 Conj ConjugateTranspose Cos Cosh Cumprod Cumsum
        CumulativeLogsumexp DataFormatDimMap DataFormatVecPermute Dawsn DenseBincount
        DepthToSpace Dequantize Digamma Div DivNoNan DynamicPartition DynamicStitch Equal Erf
        Erfc Erfinv EuclideanNorm Exp ExpandDims Expint Expm1 Fill Floor FloorDiv FloorMod
        FresnelCos FresnelSin Gather GatherNd GatherV2 Greater GreaterEqual HistogramFixedWidth
        Igamma IgammaGradA Igammac Imag Inv InvGrad Invert InvertPermutation IsFinite IsInf
        IsNan IsotonicRegression LeftShift Less LessEqual Lgamma LinSpace ListDiff Log Log1p
        LogicalAnd LogicalNot LogicalOr LowerBound Max Maximum Mean Min Minimum MirrorPad
        MirrorPadGrad Mod Mul MulNoNan Ndtri Neg NextAfter NotEqual NthElement OneHot OnesLike
        Pack Pad PadV2 ParallelConcat ParallelDynamicStitch Polygamma PopulationCount Pow Prod
        Range Rank Real RealDiv Reciprocal ReciprocalGrad Reshape Reverse ReverseSequence
        ReverseV2 RightShift Rint Roll Round Rsqrt RsqrtGrad ScatterNd ScatterNdNonAliasingAdd
        SegmentMax SegmentMaxV2 SegmentMean SegmentMin SegmentMinV2 SegmentProd SegmentProdV2
        SegmentSum SegmentSumV2 Select SelectV2 SerializeTensor Shape ShapeN Sign Sin Sinh Size
        Slice SpaceToBatch SpaceToBatchND SpaceToDepth Spence Split SplitV Sqrt SqrtGrad Square
        SquaredDifference Squeeze StridedSlice StridedSliceAssign StridedSliceGrad Sub Sum Tan
        TensorScatterAdd TensorScatterMax TensorScatterMin TensorScatterSub TensorScatterUpdate
        TensorStridedSliceUpdate Tile TileGrad TopK TopKV2 Transpose TruncateDiv TruncateMod
        Unique UniqueV2 UniqueWithCounts UniqueWithCountsV2 Unpack UnravelIndex
        UnsortedSegmentMax UnsortedSegmentMin UnsortedSegmentProd UnsortedSegmentSum UpperBound
        Where Xdivy Xlog1py Xlogy ZerosLike Zeta""",
}
HARMLESS = frozenset(name for names in _HARMLESS.values() for name in names.split())

READS_TABLE = ("InitializeTableFromTextFile", "InitializeTableFromTextFileV2")
"""Fills a table from a file: harmless where that is one of the model's own assets."""

SAVES = ("Save", "SaveV2", "SaveSlices", "MergeV2Checkpoints")
RESTORES = ("Restore", "RestoreV2", "RestoreSlice")
"""What savers are made of: harmless where nothing calls them, or the loader with its own file."""

# Why what is best known is not harmless: without a leading `_` or `Experimental` and a trailing V2,
# V3, …; a name that ends with `*` stands for a family.
_KNOWN: Mapping[Reason, str] = {
    "reads files": """
        ReadFile MatchingFiles WholeFileReader TextLineReader TFRecordReader LMDBReader
        FixedLengthRecordReader RecordInput ImmutableConst Skipgram LoadAndRemapMatrix
        GenerateVocabRemapping Restore RestoreSlice DTensorRestore InitializeTRTResource
        InitializeTableFromTextFile FixedUnigramCandidateSampler DecodeProto EncodeProto
        MatchingFilesDataset TextLineDataset TFRecordDataset FixedLengthRecordDataset CSVDataset
        SqlDataset LMDBDataset LoadDataset ListSnapshotChunksDataset SnapshotChunkDataset
        SnapshotDatasetReader SnapshotNestedDatasetReader""",
    "writes files": """
        WriteFile Save SaveSlices MergeV2Checkpoints SaveDataset SnapshotDataset DatasetToTFRecord
        CacheDataset CreateSummaryFileWriter CreateSummaryDbWriter ImportEvent WriteSummary
        WriteAudioSummary WriteGraphSummary WriteHistogramSummary WriteImageSummary
        WriteRawProtoSummary WriteScalarSummary DumpTensor CalibrationStatisticsSaver
        DebugIdentity DebugNanCount DebugNumericSummary""",
    "writes to the terminal or files": "Print",
    "uses the network": """
        DataServiceDataset RegisterDataset DistributedSave RemoteCall Rpc* Collective* Nccl* Send
        Recv HostSend HostRecv XlaSendToHost XlaRecvFromHost FileSystemSetConfiguration
        ConfigureDistributedTPU ShutdownDistributedTPU WaitForDistributedTPU
        InitializeHostForDistributedTPU DisconnectHostFromDistributedTPUSystem
        ConfigureAndInitializeGlobalTPU ShutdownTPUSystem ConnectTPUEmbeddingHosts
        WorkerHeartbeat""",
    "runs Python": "PyFunc PyFuncStateless EagerPyFunc GeneratorDataset",
    "runs code that cannot be checked": """
        DatasetFromGraph DeserializeIterator XlaCallModule XlaCustomCall MlirPassthroughOp
        XlaHostComputeMlir TPUCompileMlir TRTEngineOp""",
    "ends the process": "Abort",
}
_REASONS = {name: reason for reason, names in _KNOWN.items() for name in names.split()}
_FAMILIES = {name[:-1]: reason for name, reason in _REASONS.items() if name.endswith("*")}


def reason_against(op: str) -> Reason | None:
    """Why an op is not harmless; None: it is.

    >>> reason_against("Conv2D"), reason_against("ReadFile"), reason_against("MapDataset")
    (None, 'reads files', 'not known to be harmless')
    """
    if op in HARMLESS:
        return None
    name = re.sub(r"^_*(?:Experimental)?|V\d+$", "", op)
    if name in _REASONS:
        return _REASONS[name]
    for prefix, reason in _FAMILIES.items():
        if name.startswith(prefix):
            return reason
    from tensorflow.python.framework import op_def_registry

    known = op_def_registry.get(op) is not None
    return "not known to be harmless" if known else "unknown to this TensorFlow"


def runs_unasked(op: str) -> bool:
    """Whether importing a graph may run an op that nothing needs: to know the shapes behind it."""
    from tensorflow.python.framework import op_def_registry

    definition = op_def_registry.get(op)
    return definition is None or not definition.is_stateful
