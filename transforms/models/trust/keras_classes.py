"""What a `.keras` file of an image model may be made of: exact pairs of a module and a class.

None of these takes a path, a function or code from the file. Not among them, though they are
Keras's own: layers with a vocabulary (which may be a path), those that wrap another program
(TFSMLayer, TorchModuleWrapper, JaxLayer, FlaxLayer), Lambda, and operations on functions.
"""

from __future__ import annotations

from collections.abc import Mapping

# As Keras 3.15 writes them.
_CLASSES: Mapping[str, str] = {
    "keras": "Sequential Model DTypePolicy DTypePolicyMap",
    "keras.models": "Sequential Model",
    "keras.src.models.functional": "Functional",
    "keras.src.applications.convnext": "LayerScale",
    "keras.src.applications.inception_resnet_v2": "CustomScaleLayer",
    "keras.src.models.sequential": "Sequential",
    "keras.dtype_policies": "DTypePolicy DTypePolicyMap",
    "keras.random": "SeedGenerator",
    "keras.initializers": """
        Constant GlorotNormal GlorotUniform HeNormal HeUniform Identity IdentityInitializer
        LecunNormal LecunUniform Ones Orthogonal OrthogonalInitializer RandomNormal RandomUniform
        TruncatedNormal VarianceScaling Zeros""",
    "keras.regularizers": "L1 L1L2 L2 OrthogonalRegularizer",
    "keras.constraints": "MaxNorm MinMaxNorm NonNeg UnitNorm",
    "keras.layers": """
        Activation ActivityRegularization AdaptiveAveragePooling1D AdaptiveAveragePooling2D
        AdaptiveAveragePooling3D AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D
        Add AdditiveAttention AlphaDropout Attention AugMix AutoContrast Average AveragePooling1D
        AveragePooling2D AveragePooling3D AvgPool1D AvgPool2D AvgPool3D BatchNormalization
        Bidirectional CenterCrop Concatenate Conv1D Conv1DTranspose Conv2D Conv2DTranspose Conv3D
        Conv3DTranspose ConvLSTM1D ConvLSTM2D ConvLSTM3D Convolution1D Convolution2D Convolution3D
        Cropping1D Cropping2D Cropping3D CutMix Dense DepthwiseConv1D DepthwiseConv2D Dot Dropout
        ELU EinsumDense Embedding Equalization Flatten GRU GRUCell GaussianDropout GaussianNoise
        GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D GlobalAvgPool1D
        GlobalAvgPool2D GlobalAvgPool3D GlobalMaxPool1D GlobalMaxPool2D GlobalMaxPool3D
        GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D GroupNormalization
        GroupQueryAttention Identity InputLayer LSTM LSTMCell LayerNormalization LeakyReLU Masking
        MaxPool1D MaxPool2D MaxPool3D MaxPooling1D MaxPooling2D MaxPooling3D Maximum Minimum MixUp
        MultiHeadAttention Multiply Normalization PReLU Permute Pipeline RMSNormalization RNN
        RandAugment RandomBrightness RandomColorDegeneration RandomColorJitter RandomContrast
        RandomCrop RandomElasticTransform RandomErasing RandomFlip RandomGaussianBlur
        RandomGrayscale RandomHue RandomInvert RandomPerspective RandomPosterization
        RandomRotation RandomSaturation RandomSharpness RandomShear RandomTranslation RandomZoom
        ReLU RepeatVector Rescaling Reshape Resizing SeparableConv1D SeparableConv2D SimpleRNN
        SimpleRNNCell Softmax Solarization SpatialDropout1D SpatialDropout2D SpatialDropout3D
        SpectralNormalization StackedRNNCells Subtract TimeDistributed UnitNormalization
        UpSampling1D UpSampling2D UpSampling3D ZeroPadding1D ZeroPadding2D ZeroPadding3D""",
    # Operations on tensors that a model is written with instead of layers.
    "keras.src.ops.numpy": """
        Absolute Add All Amax Amin Any Append Arange Argmax Argmin Argsort Average BroadcastTo Ceil
        Clip Concatenate Cos Cross Cumprod Cumsum Diag Diagonal Divide DivideNoNan Dot Einsum Equal
        Exp Exp2 ExpandDims Expm1 Flip Floor FloorDivide Full FullLike GetItem Greater GreaterEqual
        Hstack Inner Isfinite Isinf Isnan Less LessEqual Linspace Log Log10 Log1p Log2 Logaddexp
        LogicalAnd LogicalNot LogicalOr LogicalXor Matmul Max Maximum Mean Median Meshgrid Min
        Minimum Mod Moveaxis Multiply NanToNum Negative NotEqual OnesLike Outer Pad Power Prod
        Quantile Ravel Reciprocal Repeat Reshape Roll Rot90 Round Sign Sin Size Sort Split Sqrt
        Square Squeeze Stack Std Subtract Sum Swapaxes Take TakeAlongAxis Tan Tanh Tensordot Tile
        Transpose Tril Triu TrueDivide Var Vstack Where ZerosLike""",
    "keras.src.ops.nn": """
        AdaptiveAveragePool AdaptiveMaxPool AveragePool BatchNorm Celu Conv ConvTranspose
        DepthToSpace DepthwiseConv DotProductAttention Elu Fold Gelu Glu HardShrink HardSigmoid
        HardSilu HardTanh LayerNorm LeakyRelu LogSigmoid LogSoftmax MaxPool Moments MultiHot
        Normalize OneHot RMSNorm Relu Relu6 Selu SeparableConv Sigmoid Silu SoftShrink Softmax
        Softplus Softsign SpaceToDepth SparsePlus SparseSigmoid Sparsemax Squareplus TanhShrink
        Threshold Unfold""",
    "keras.src.ops.math": "Erf Erfinv Logsumexp Rsqrt TopK",
    "keras.src.ops.image": """
        AffineTransform CropImages ExtractPatches GaussianBlur HSVToRGB PadImages
        PerspectiveTransform RGBToGrayscale RGBToHSV Resize ScaleAndTranslate SobelEdges""",
    "keras.src.ops.linalg": "Norm",
    "keras.src.ops.core": "Cast SaturateCast Slice SliceUpdate StopGradient Unstack",
    # What a model inside a model was compiled with.
    "keras.optimizers": """
        Adadelta Adafactor Adagrad Adam AdamW Adamax Ftrl Lamb Lion LossScaleOptimizer Muon Nadam
        RMSprop SGD""",
    "keras.optimizers.schedules": """
        CosineDecay CosineDecayRestarts ExponentialDecay InverseTimeDecay PiecewiseConstantDecay
        PolynomialDecay""",
    "keras.losses": """
        BinaryCrossentropy BinaryFocalCrossentropy CategoricalCrossentropy
        CategoricalFocalCrossentropy CategoricalHinge CosineSimilarity Dice Hinge Huber
        KLDivergence LogCosh MeanAbsoluteError MeanAbsolutePercentageError MeanSquaredError
        MeanSquaredLogarithmicError Poisson SparseCategoricalCrossentropy SquaredHinge Tversky""",
    "keras.metrics": """
        AUC Accuracy BinaryAccuracy BinaryCrossentropy CategoricalAccuracy CategoricalCrossentropy
        CosineSimilarity F1Score Mean MeanAbsoluteError MeanSquaredError Precision Recall
        RootMeanSquaredError SparseCategoricalAccuracy SparseCategoricalCrossentropy
        SparseTopKCategoricalAccuracy TopKCategoricalAccuracy""",
}
CLASSES = frozenset((module, name) for module, names in _CLASSES.items() for name in names.split())

_ACTIVATIONS = """
    celu elu exponential gelu glu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh
    leaky_relu linear log_sigmoid log_softmax mish relu relu6 selu sigmoid silu soft_shrink
    softmax softplus softsign sparse_plus sparse_sigmoid sparsemax squareplus swish tanh
    tanh_shrink threshold"""
FUNCTIONS = frozenset(
    (module, name) for module in ("builtins", "keras.activations") for name in _ACTIVATIONS.split()
)

VALUES = frozenset(
    ("__keras_tensor__", "__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__")
)
"""What Keras writes as a class and is a value; it has no module."""
