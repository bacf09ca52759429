"""An operator's name -> the family that it belongs to: the table of kinds by name."""

from __future__ import annotations

from functools import lru_cache

_CONVOLUTIONS = """
    convolution convolution_overrideable conv1d conv2d conv3d conv_transpose1d conv_transpose2d
    conv_transpose3d conv_depthwise2d conv_depthwise3d slow_conv2d slow_conv3d thnn_conv2d
    slow_conv_transpose2d slow_conv_transpose3d slow_conv_dilated2d slow_conv_dilated3d mkldnn_convolution
    convolution_relu convolution_add_relu convolution_transpose conv_tbc deform_conv2d
    convolution_pointwise"""
_PRODUCTS = """
    mm bmm addmm baddbmm addbmm addmv addr mv dot vdot inner outer matmul einsum tensordot int_mm
    chain_matmul"""
_FAMILIES = {
    "linear": "linear bilinear trilinear linear_pointwise mkl_linear linear_dynamic linear_relu scaled_mm",
    "attention": """
        scaled_dot_product_attention scaled_dot_product_attention_math scaled_dot_product_flash_attention
        scaled_dot_product_flash_attention_for_cpu scaled_dot_product_efficient_attention
        scaled_dot_product_fused_attention_overrideable scaled_dot_product_attention_math_for_mps
        scaled_dot_product_cudnn_attention flash_attention_forward efficient_attention_forward
        flash_attention efficient_attention native_multi_head_attention transformer_encoder_layer_fwd
        triton_multi_head_attention triton_scaled_dot_attention flex_attention""",
    "recurrent": """
        lstm gru rnn_tanh rnn_relu lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell mkldnn_rnn_layer
        cudnn_rnn miopen_rnn lstm_mps thnn_fused_lstm_cell thnn_fused_gru_cell quantized_lstm
        quantized_gru""",
    "batch_norm": """
        batch_norm native_batch_norm native_batch_norm_legit native_batch_norm_legit_functional
        native_batch_norm_legit_no_training cudnn_batch_norm miopen_batch_norm batch_norm_impl_index
        batch_norm_with_update batch_norm_no_update batch_norm_elemt batch_norm_stats""",
    "norm": """
        layer_norm native_layer_norm group_norm native_group_norm instance_norm rms_norm fused_rms_norm
        local_response_norm weight_norm weight_norm_interface renorm""",
    "activation": """
        relu relu6 leaky_relu prelu prelu_kernel rrelu rrelu_with_noise elu selu celu gelu silu mish glu
        hardtanh hardswish hardsigmoid hardshrink softshrink softplus sigmoid log_sigmoid log_sigmoid_forward
        tanh threshold softmax safe_softmax log_softmax softmin softsign tanhshrink""",
    "pooling": """
        avg_pool1d avg_pool2d avg_pool3d max_pool1d max_pool2d max_pool3d max_pool1d_with_indices
        max_pool2d_with_indices max_pool3d_with_indices adaptive_avg_pool1d adaptive_avg_pool2d
        adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d fractional_max_pool2d
        fractional_max_pool3d max_unpool2d max_unpool3d mkldnn_max_pool2d mkldnn_max_pool3d lp_pool2d
        quantized_max_pool1d quantized_max_pool2d roi_align roi_pool ps_roi_align ps_roi_pool""",
    "resampling": """
        upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_nearest_exact1d
        upsample_nearest_exact2d upsample_nearest_exact3d upsample_linear1d upsample_bilinear2d
        upsample_bilinear2d_aa upsample_bicubic2d upsample_bicubic2d_aa upsample_trilinear3d
        upsample_lanczos2d_aa grid_sampler grid_sampler_2d grid_sampler_3d affine_grid_generator
        grid_sampler_2d_cpu_fallback cudnn_grid_sampler""",
    "embedding": "embedding embedding_bag embedding_bag_forward_only embedding_dense embedding_renorm",
    "elementwise": """
        add sub rsub mul div addcmul addcdiv pow exp log sqrt rsqrt reciprocal abs neg sin cos where
        clamp clamp_min clamp_max minimum maximum floor ceil round sign erf lerp fmod remainder masked_fill
        eq ne lt le gt ge logical_and logical_or logical_not bitwise_and bitwise_or bitwise_not isnan
        dropout native_dropout feature_dropout alpha_dropout bernoulli rand randn rand_like randn_like
        normal uniform fft_c2c fft_r2c fft_c2r square complex polar view_as_complex_copy""",
    "reduction": """
        sum mean amax amin max min argmax argmin prod norm linalg_vector_norm var std var_mean std_mean
        logsumexp cumsum cumprod cummax cummin any all count_nonzero nansum aminmax median mse_loss l1_loss
        nll_loss nll_loss_forward nll_loss2d_forward cross_entropy_loss smooth_l1_loss binary_cross_entropy
        cosine_similarity pairwise_distance cdist cdist_forward trace""",
    "data_movement": """
        cat concat concatenate stack hstack vstack clone contiguous copy to to_copy cast_float type_as reshape
        reshape_copy flatten unflatten repeat repeat_interleave tile index index_select index_put
        index_put_impl index_copy index_add index_fill gather scatter scatter_add scatter_reduce
        select_scatter slice_scatter diagonal_scatter take take_along_dim masked_select masked_scatter
        roll flip rot90 pad
        constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d
        replication_pad2d replication_pad3d pad_circular unfold im2col col2im unfold_copy pixel_shuffle
        pixel_unshuffle channel_shuffle native_channel_shuffle tril triu fill zero empty empty_like
        empty_strided empty_permuted new_empty new_zeros new_ones new_full new_empty_strided zeros zeros_like
        ones ones_like full full_like arange linspace eye scalar_tensor tensor lift_fresh lift_fresh_copy
        expand expand_as expand_copy view permute transpose t squeeze unsqueeze slice narrow select split
        split_with_sizes split_with_sizes_copy chunk unsafe_split unsafe_split_with_sizes unsafe_chunk
        unsafe_view tensor_split unbind movedim swapaxes detach alias as_strided as_strided_copy diagonal
        diag_embed real imag view_as unflatten_dense permute_copy transpose_copy one_hot meshgrid
        broadcast_tensors broadcast_to expand_dims resize set slice_copy select_copy""",
}
CONVOLUTIONS = frozenset(_CONVOLUTIONS.split())
PRODUCTS = frozenset(_PRODUCTS.split())
_KINDS = {name: kind for kind, listed in _FAMILIES.items() for name in listed.split()}
_SOFTMAX = ("safe_softmax",)


@lru_cache(maxsize=4096)
def base_name(op: str) -> str:
    """Strip what does not change the family: namespace, overload, leading and trailing `_`, `_backward…`."""
    name = op.rpartition("::")[2].partition(".")[0].strip("_")
    name = name.partition("_backward")[0]
    return "softmax" if name in _SOFTMAX else name


@lru_cache(maxsize=4096)
def family(base: str) -> str | None:
    """The kind that a base name alone decides, or None."""
    return _KINDS.get(base)
