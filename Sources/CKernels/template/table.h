// The table of the including file. It defines before: v16 and v16i with their operations, TILE_ROWS, TILE_PANELS, INT8_ROWS,
// INT8_PANELS (and INT8_FOLDED_ROWS), GEMV_PANELS, TABLE_CRC32, TABLE_ISA, TABLE_NAME and TABLE (the symbol).
#include "vector_tail.h"

#include "gemm.h"
#include "panels.h"
#include "bf16.h"
#include "int_panels.h"
#include "int8.h"
#include "int8_rounding.h"
#include "int8_few.h"
#include "int8_gemm.h"
#include "gptq.h"
#include "refinement.h"
#include "elementwise.h"
#include "attention.h"
#include "kv_codes.h"

const zn_kernels TABLE = {
    .isa = TABLE_ISA,
    .name = TABLE_NAME,
    .tile_rows = TILE_ROWS,
    .tile_panels = TILE_PANELS,
    .int8_rows = INT8_ROWS,
    .block_depth = BLOCK_DEPTH,
    .gemm = gemm,
    .pack_rows = pack_rows,
    .gemm_packed = gemm_packed,
    .pack_rows_bf16 = pack_rows_bf16,
    .narrow_panel_bf16 = narrow_panel_bf16,
    .gemm_bf16 = gemm_bf16,
    .pack_panel = pack_panel,
    .copy_panels = copy_panels,
    .transpose16 = transpose16,
    .widen_panel = widen_panel,
    .gemv_panels = gemv_panels,
    .attend = attend,
    .encode_kv_block = encode_kv_block,
    .decode_kv_block = decode_kv_block,
    .dequantize_panel = dequantize_panel,
    .gemv_int_panels = gemv_int_panels,
    .quantize_rows = quantize_rows,
    .add_outliers = add_outliers,
    .gemm_int8 = gemm_int8,
    .gemv_int8 = gemv_int8,
    .gptq_block = gptq_block,
    .gptq_rows = gptq_rows,
    .rounding_losses = rounding_losses,
    .center_codes = center_codes,
    .residuals = residuals,
    .dot_lanes = dot_lanes,
    .descend_block = descend_block,
    .widen = widen,
    .narrow = narrow,
    .rms_norm = rms_norm,
    .layer_norm = layer_norm,
    .gelu = gelu,
    .gelu_tanh = gelu_tanh,
    .relu = relu,
    .softmax_panel = softmax_panel,
    .hyperbolic_tangent = hyperbolic_tangent,
    .add = add,
    .multiply = multiply,
    .quantize_vector = quantize_vector,
    .silu_multiply = silu_multiply,
    .silu_multiply_gradient = silu_multiply_gradient,
    .rms_norm_gradient = rms_norm_gradient,
    .layer_norm_gradient = layer_norm_gradient,
    .gelu_gradient = gelu_gradient,
    .gelu_tanh_gradient = gelu_tanh_gradient,
    .relu_gradient = relu_gradient,
    .softmax_gradient = softmax_gradient,
    .dot = dot,
    .rotate = rotate,
    .maximum = maximum,
    .exp_sum = exp_sum,
    .sum_exp = sum_exp,
    .scale = scale,
    .crc32 = TABLE_CRC32,
    .burn = burn,
    .burn_pairs = burn_pairs,
    .burn_bytes = burn_bytes,
};
