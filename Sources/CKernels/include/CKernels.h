// Kernels: pure functions over caller-owned memory. No allocation, no files, no threads, no error paths; shapes are
// checked by the caller (Swift, target Compute). Row-major, little-endian, unaligned pointers are fine unless said.
//
// Reproducibility is part of the contract: every table gives the same bits.
//   * A sum over k for one output is ONE chain of fused multiply-adds in ascending k, whatever the vector width.
//   * A horizontal sum over an array keeps 16 partial sums, lane i taking elements i, i+16, ..., and adds them as
//     ((0+8)+(4+12)) + ((2+10)+(6+14)) + the odd ones alike: zn_lane_sum in internal.h.
//   * exp is a polynomial of our own, evaluated with fused multiply-adds.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum zn_isa {
    ZN_ISA_SCALAR = 0,
    ZN_ISA_AVX2 = 1,    // AVX2, FMA, F16C
    ZN_ISA_AVX512 = 2,  // AVX-512 F, BW, VL, DQ, VNNI
    ZN_ISA_NEON = 3,
} zn_isa;

// Element type of a matrix that is multiplied from the right. ZN_I8 are whole numbers -128 to 127, as KV caches keep them;
// `narrow` does not make them (`quantize_vector` does).
typedef enum zn_float_type { ZN_F32 = 0, ZN_F16 = 1, ZN_BF16 = 2, ZN_I8 = 3 } zn_float_type;

// What a product does to C. ZN_ADD and ZN_SUBTRACT continue C's own chain; ZN_ADD_BLOCK makes a chain of its own from
// zero and adds it to C once: sums over very many k lose fewer digits in blocks.
typedef enum zn_gemm_mode { ZN_OVERWRITE = 0, ZN_ADD = 1, ZN_SUBTRACT = 2, ZN_ADD_BLOCK = 3 } zn_gemm_mode;

// Panels. A matrix B [N, K] (N outputs, K summed) is cut into panels of ZN_PANEL outputs; a panel is stored k-major:
// element (n, k) of panel p = n / 16 is at p * panel_stride + k * 16 + n % 16. Outputs beyond N are zero.
#define ZN_PANEL 16

// Activations in `fast` mode: inputs of a block, which share a scale, are one part or ZN_INT8_BLOCK_MOST; those of a span,
// which share a scale of the weights, ZN_INT8_SPAN at most.
#define ZN_INT8_PART 32
#define ZN_INT8_BLOCK_MOST 64
#define ZN_INT8_SPAN 128
// Spans of a run: what gemm_int8 unpacks of a panel at a time.
#define ZN_INT8_RUN 4
// Bytes of scratch memory that gemm_int8 needs: the codes of a run as bytes, and sums.
static inline int64_t zn_int8_scratch(int64_t m, int64_t panels) {
    return ZN_INT8_RUN * ZN_INT8_SPAN * 32 + m * panels * ZN_PANEL * 4;
}
// What sums of byte products start from, as floats (template/int8.h).
#define ZN_SUM_START 12582912.0f
// Spans of a row of k inputs in groups of group_size: every group is cut from its start.
static inline int64_t zn_int8_spans(int64_t k, int64_t group_size) {
    const int64_t whole = k / group_size, rest = k % group_size;
    return whole * ((group_size + ZN_INT8_SPAN - 1) / ZN_INT8_SPAN) + (rest + ZN_INT8_SPAN - 1) / ZN_INT8_SPAN;
}

// An input that is not rounded with its block.
// Panels of output rows that gptq_rows takes at most.
#define ZN_ROW_PANELS 4

typedef struct zn_outlier {
    int32_t input;
    float value;
} zn_outlier;
#define ZN_OUTLIER_LIMIT 8
// How many a row of k inputs may have: n inputs beyond L times the root mean square have n * L^2 < k.
static inline int64_t zn_outlier_most(int64_t k) { return k / (ZN_OUTLIER_LIMIT * ZN_OUTLIER_LIMIT) + 1; }

// ---- caches of keys and values --------------------------------------------------------------------------------
// Keys of one head are panels of 16 positions, [head_dim][16] each; values are panels of 16 elements of the head,
// [position][16] each, padded_dim / 16 of them.
//
// In 4 bits, ZN_KV_BLOCK positions of a head are one block. A key's element is code * scale + minimum with the scale and the
// minimum of its element in the block, a value's with those of its position:
//   codes of keys    [4 panels][(head_dim + 1) / 2][16] bytes, the lower half of an even element of the head, the upper one of
//                    the odd element after it
//   codes of values  [padded_dim / 16 panels][32][16] bytes, the lower half of an even position, the upper one of the odd one
//   halves           scales of keys [head_dim], minima of keys [head_dim], scales of values [64], minima of values [64]
#define ZN_KV_BLOCK 64
static inline int64_t zn_kv_values_offset(int64_t head_dim) { return (head_dim + 1) / 2 * ZN_KV_BLOCK; }
static inline int64_t zn_kv_scales_offset(int64_t head_dim, int64_t padded_dim) {
    return zn_kv_values_offset(head_dim) + padded_dim * (ZN_KV_BLOCK / 2);
}
static inline int64_t zn_kv_block_bytes(int64_t head_dim, int64_t padded_dim) {
    return zn_kv_scales_offset(head_dim, padded_dim) + 4 * head_dim + 4 * ZN_KV_BLOCK;
}

// Keys of a segment that `attend` takes at a time: where a running maximum may change. Part of the contract.
#define ZN_ATTENTION_KEYS 256

// Successive positions of a head that are stored alike.
typedef struct zn_kv_segment {
    // The first position; a multiple of 16, and of ZN_KV_BLOCK with codes.
    int64_t first;
    // Positions; a multiple of ZN_KV_BLOCK with codes.
    int64_t count;
    // Whether `keys` are blocks of codes, and hold the values as well.
    bool is_codes;
    // What keys and values are otherwise.
    zn_float_type type;
    const void *_Nonnull keys;
    const void *_Nullable values;
    // Elements.
    int64_t value_panel_stride;
    // Of bytes: one for each position.
    const float *_Nullable key_scales;
    const float *_Nullable value_scales;
} zn_kv_segment;

// Queries that see keys of the same head. Query r is of token r / group; the first token sees the keys at positions
// 0 ..< first_visible, each further one sees one more.
typedef struct zn_attention {
    int64_t rows, group, first_visible;
    int64_t head_dim, padded_dim;
    // Query r is at queries + r / group * token_stride + r % group * head_stride, its result alike.
    const float *_Nonnull queries;
    int64_t token_stride, head_stride;
    float *_Nonnull out;
    int64_t out_token_stride, out_head_stride;
    // What scores are multiplied with; log2 e is part of it.
    float scale;
    // Ascending and without gaps.
    const zn_kv_segment *_Nonnull segments;
    int64_t segment_count;
} zn_attention;

// Floats of scratch memory that `attend` needs.
static inline int64_t zn_attention_scratch(int64_t rows, int64_t head_dim, int64_t padded_dim) {
    const int64_t stride = (head_dim + 31) / 32 * 32;
    return ZN_ATTENTION_KEYS * (head_dim + padded_dim + 1 + 2) + rows * (2 * stride + padded_dim + 33) +
           6 * (stride + 2 * ZN_ATTENTION_KEYS + 48) + 2 * (ZN_ATTENTION_KEYS / ZN_KV_BLOCK) * stride + 16 * 16;
}

typedef struct zn_kernels {
    zn_isa isa;
    const char *_Nonnull name;

    // ---- products --------------------------------------------------------------------------------------------
    // Rows of C that one register tile holds (only a hint for packing A: any m works).
    int64_t tile_rows;
    // Panels of C that it holds (a hint, too).
    int64_t tile_panels;
    // The same for gemm_int8.
    int64_t int8_rows;
    // Summed indices of one product for which tiles of rows stay in a core's second-level cache while panels pass by them, and
    // the panels as well, 6144 / block_depth of them (a hint, too).
    int64_t block_depth;
    // C[i, n] = / += / -= sum_k A[i, k] * B[n, k],   0 <= i < m, 0 <= n < n_count
    //   A element (i, k) at a[i * a_row_stride + k * a_k_stride]
    //   B panels as above, panel_stride floats apart, k from 0
    //   C element (i, n) at c[(n / 16) * c_panel_stride + i * c_row_stride + n % 16]
    // For an ordinary row-major C: c_panel_stride = 16, c_row_stride = row length. Columns >= n_count are not written.
    void (*_Nonnull gemm)(int64_t m, int64_t n_count, int64_t k, const float *_Nonnull a, int64_t a_row_stride,
                          int64_t a_k_stride, const float *_Nonnull b, int64_t b_panel_stride, float *_Nonnull c,
                          int64_t c_row_stride, int64_t c_panel_stride, zn_gemm_mode mode);
    // A[m, k] with any strides -> tiles of tile_rows rows, k-major: tile t at t * tile_rows * k, element (i, k) at
    // k * tile_rows + i; missing rows of the last tile are zero.
    void (*_Nonnull pack_rows)(float *_Nonnull packed, const float *_Nonnull a, int64_t a_row_stride,
                               int64_t a_k_stride, int64_t m, int64_t k);
    // gemm() with A as pack_rows() leaves it.
    void (*_Nonnull gemm_packed)(int64_t m, int64_t n_count, int64_t k, const float *_Nonnull packed_a,
                                 const float *_Nonnull b, int64_t b_panel_stride, float *_Nonnull c,
                                 int64_t c_row_stride, int64_t c_panel_stride, zn_gemm_mode mode);
    // Products of sides rounded to bf16 (to nearest even; subnormals become zero), summed in fp32. A word holds two
    // successive k, the even one in its lower half; an odd last k has zero beside it.
    //   pack_rows_bf16     as pack_rows, from rows that lie a_row_stride apart: word (i, w) at w * tile_rows + i of its tile
    //   narrow_panel_bf16  a panel [k][16] of floats -> words [(k + 1) / 2][16]
    //   gemm_bf16          C, row-major, = (with `add`: +=) their product: for each word the product of the upper halves, then
    //                      that of the lower, is added by one fused multiply-add, operands and results that are subnormal
    //                      counting as zero. So VDPBF16PS is defined; every table gives its bits.
    void (*_Nonnull pack_rows_bf16)(uint32_t *_Nonnull packed, const float *_Nonnull a, int64_t a_row_stride, int64_t m,
                                    int64_t k);
    void (*_Nonnull narrow_panel_bf16)(uint32_t *_Nonnull words, const float *_Nonnull panel, int64_t k);
    void (*_Nonnull gemm_bf16)(int64_t m, int64_t n_count, int64_t words, const uint32_t *_Nonnull packed_a,
                               const uint32_t *_Nonnull b, int64_t b_panel_stride, float *_Nonnull c,
                               int64_t c_row_stride, bool add);
    // One panel from a row-major B: rows <= 16 rows of `k` elements, row_stride elements apart -> [k][16] floats.
    void (*_Nonnull pack_panel)(float *_Nonnull panel, const void *_Nonnull b, zn_float_type type, int64_t row_stride,
                                int64_t rows, int64_t k);
    // Panels of a B whose summed index runs over rows: panels[n / 16 * panel_stride + k * 16 + n % 16] = b[k * row_stride + n],
    // 0 <= n < columns, 0 <= k; columns that fill the last panel up are zero.
    void (*_Nonnull copy_panels)(float *_Nonnull panels, int64_t panel_stride, const void *_Nonnull b,
                                 zn_float_type type, int64_t row_stride, int64_t columns, int64_t k);
    // Sixteen rows of 16-bit elements, whatever they are, to columns and back: to[c * to_stride + r] = from[r * from_stride + c],
    // 0 <= r < 16, 0 <= c < columns; rows from `rows` on count as zero.
    void (*_Nonnull transpose16)(uint16_t *_Nonnull to, int64_t to_stride, const uint16_t *_Nonnull from,
                                 int64_t from_stride, int64_t rows, int64_t columns);
    // One panel [k][16] of floats from a panel [k][16] of any type.
    void (*_Nonnull widen_panel)(float *_Nonnull panel, const void *_Nonnull source, zn_float_type type, int64_t k);
    // y[i, n] = sum_k x[i, k] * B[n, k] for one row or a few, over `panels` panels of any type, panel_stride elements apart; with
    // `add` the chain goes on from y[i, n]. Row i of y holds 16 * panels floats. Same bits as gemm.
    void (*_Nonnull gemv_panels)(int64_t rows, float *_Nonnull y, int64_t y_row_stride, const float *_Nonnull x,
                                 int64_t x_row_stride, const void *_Nonnull b, zn_float_type type,
                                 int64_t panel_stride, int64_t panels, int64_t k, bool add);

    // ---- attention ---------------------------------------------------------------------------------------------
    // Attention in `fast` arithmetic. Subnormal numbers count as zero; [x] is x rounded to the nearest bf16.
    //   1. q' = q * scale. A score is the chain of gemm_bf16 of [q'] and [key]; with bytes it is multiplied with the key's scale;
    //      with codes it is the chain of [q' * scale] and 128 + code, from sum(q' * minimum) - 128 * sum [q' * scale].
    //   2. Keys come in blocks of ZN_ATTENTION_KEYS from the start of their segment. A block's maximum, if it is the highest so
    //      far, replaces the row's, and what is summed so far is multiplied with 2^(old - new).
    //   3. p = 2^(score - maximum) by a polynomial of our own. The sum of p has 16 lanes, as all sums over an array.
    //   4. The values are added as the chain of gemm_bf16 of [p] and [value], p times the value's scale with bytes; with codes
    //      the chain of [p * scale] and 128 + code, and beside it the sums of p * minimum and of -128 * [p * scale].
    // A row's result does not depend on the other rows. scratch: zn_attention_scratch floats, aligned to 64 bytes.
    void (*_Nonnull attend)(const zn_attention *_Nonnull job, float *_Nonnull scratch);
    // One head's ZN_KV_BLOCK positions in half precision -> a block of codes, each the nearest to what it stands for. All are
    // finite. `block` is aligned to 2 bytes.
    void (*_Nonnull encode_kv_block)(uint8_t *_Nonnull block, const uint16_t *_Nonnull keys, const uint16_t *_Nonnull values,
                                     int64_t value_panel_stride, int64_t head_dim, int64_t padded_dim);
    // A block's panels as floats: code * scale + minimum, rounded once.
    void (*_Nonnull decode_kv_block)(float *_Nullable keys, float *_Nullable values, int64_t value_panel_stride,
                                     const uint8_t *_Nonnull block, int64_t head_dim, int64_t padded_dim);

    // ---- integer panels (Formats/packed-model.md) -------------------------------------------------------------
    // Panels of 16 outputs, fields of `bits` = 2, 4 or 8 bits. 64 bytes hold 16 outputs x 32 / bits inputs: byte
    // r * 4 + j holds in field f (bits f * bits ..) the code of output r, input 4 * f + j of the block.
    //   scales  f16 [groups][16]      zeros  u8 [groups][16], or NULL: all 2^(bits - 1)      group of input k: k / group_size
    // Inputs [first_k, first_k + k) of one panel -> (code - zero) * scale as floats [k][16]. first_k and group_size are
    // multiples of 16. The product is exact: 11 significant bits times at most 9.
    void (*_Nonnull dequantize_panel)(float *_Nonnull panel, const uint8_t *_Nonnull codes, int bits,
                                      const uint16_t *_Nonnull scales, const uint8_t *_Nullable zeros,
                                      int64_t group_size, int64_t first_k, int64_t k);
    // y[n] = sum_k x[k] * w[n, k] with w as dequantize_panel gives it; `panels` panels; codes, scales, zeros of one panel
    // are panel_code_bytes, groups * 16 and groups * 16 elements long. Same bits as gemm on the dequantized panels.
    void (*_Nonnull gemv_int_panels)(float *_Nonnull y, const float *_Nonnull x, const uint8_t *_Nonnull codes, int bits,
                                     const uint16_t *_Nonnull scales, const uint8_t *_Nullable zeros, int64_t group_size,
                                     int64_t groups, int64_t panel_code_bytes, int64_t panels, int64_t k);

    // ---- integer panels, `fast` mode: activations as signed bytes ------------------------------------------------
    // Each block b of `block` inputs of a row becomes q = round(x * 127 / max|x|) with scale max|x| / 127. A span s
    // is up to ZN_INT8_SPAN inputs of one group of the weights; a run is ZN_INT8_RUN spans, or all of them if `rows` are so few
    // that gemm_int8 does not unpack. Rows first .. first + m - 1 of `rows`, x being the first of them; `first` is a multiple
    // of `tile` (1 for gemv_int8, int8_rows for gemm_int8). Run after run holds for tile after tile, the last one filled
    // up with rows of zeros:
    //   packed  words of four inputs, ascending, of each row in turn
    //   scales  of each block of the run, of each row in turn
    //   sums    for each span of the run, the sum over its blocks of scale * sum of q (lane by lane, then as zn_lane_sum), of
    //           each row in turn, and then the offset - 128 * that - ZN_SUM_START * sum of the scales
    // k and group_size are multiples of 32. Inputs larger than ZN_OUTLIER_LIMIT times the root mean square of their row
    // would leave the others of their block few bits: with `outliers` they count as 0 here, and row i's are listed at
    // outliers + i * zn_outlier_most(k), counts[i] of them, in ascending order. Without, scales are halves, as in llama.cpp's
    // Q8_0 (ggml-quants.c, quantize_row_q8_0: q by the scale before it is rounded).
    void (*_Nonnull quantize_rows)(int8_t *_Nonnull packed, float *_Nonnull scales, float *_Nonnull sums,
                                   const float *_Nonnull x, int64_t row_stride, int64_t first, int64_t m, int64_t rows,
                                   int64_t k, int64_t group_size, int64_t block, int64_t tile,
                                   zn_outlier *_Nullable outliers, int32_t *_Nonnull counts);
    // y[i, n] = value * w[n, input] + y[i, n] for each outlier of row i in the order of its list (as quantize_rows leaves
    // them), by one fused multiply-add each, w as dequantize_panel gives it; panel p of row i at i * y_row_stride + p * 16.
    void (*_Nonnull add_outliers)(int64_t m, float *_Nonnull y, int64_t y_row_stride,
                                  const zn_outlier *_Nonnull outliers, const int32_t *_Nonnull counts,
                                  const uint8_t *_Nonnull codes, int bits, const uint16_t *_Nonnull scales,
                                  const uint8_t *_Nullable zeros, int64_t group_size, int64_t groups,
                                  int64_t panel_code_bytes, int64_t panels, int64_t k);
    // y[i, n] = sum_s scale[g(s), n] / F * ((128 - F * zero[g(s), n]) * x_sum[i, s] + x_offset[i, s]
    //     + sum_{b in s} x_scale[i, b] * (ZN_SUM_START + F * sum_{k in b} code[n, k] * q[i, k]))    with F = 2^(8 - bits)
    // Integer sums are exact; blocks, then spans, are added in ascending order by one fused multiply-add each.
    // gemm_int8: y panel p, row i at i * y_row_stride + p * 16; scratch: zn_int8_scratch bytes, aligned to 64. gemv_int8: y
    // panel p at p * 16. Both overwrite the m rows of y and give the same bits for a row.
    void (*_Nonnull gemm_int8)(int64_t m, const int8_t *_Nonnull packed, const float *_Nonnull x_scales,
                               const float *_Nonnull x_sums, int64_t block, const uint8_t *_Nonnull codes, int bits,
                               const uint16_t *_Nonnull scales, const uint8_t *_Nullable zeros, int64_t group_size,
                               int64_t groups, int64_t panel_code_bytes, int64_t panels, int64_t k, float *_Nonnull y,
                               int64_t y_row_stride, uint8_t *_Nonnull scratch);
    void (*_Nonnull gemv_int8)(const int8_t *_Nonnull x, const float *_Nonnull x_scales, const float *_Nonnull x_sums,
                               int64_t block, const uint8_t *_Nonnull codes, int bits, const uint16_t *_Nonnull scales,
                               const uint8_t *_Nullable zeros, int64_t group_size, int64_t groups,
                               int64_t panel_code_bytes, int64_t panels, int64_t k, float *_Nonnull y);

    // ---- GPTQ -------------------------------------------------------------------------------------------------
    // One block of the column sweep on panels of 16 output rows (lanes), Formats/autogptq-int4.md and `Quantization/ColumnSweep`. Of
    // panel p, the strides being in elements:
    //   w        [columns][16] at w + p * w_stride: weights of the block, corrected in place
    //   original [columns][16] at original + p * original_stride: the weights before any correction, becomes original - q
    //   scales, zeros [groups][16] at p * parameter_stride; column i is of group group_of[i]
    //   codes    [panels][columns][16]  out;  errors [panels][columns][16]  out: e = (w - q) / U[i,i]
    //   loss     [panels][16] doubles, += (w - q)^2 / U[i,i]^2 / 2
    // u: columns x columns, upper triangle of the block of U, rows u_stride apart.
    // q = scale * (clamp(round_half_even(w / scale) + zero, 0, maxq) - zero); then w[j] -= e * U[i, j] for j > i, one
    // fused multiply-add each, i ascending.
    void (*_Nonnull gptq_block)(int64_t panels, int64_t columns, float *_Nonnull w, int64_t w_stride,
                                float *_Nonnull original, int64_t original_stride, const float *_Nonnull u,
                                int64_t u_stride, const float *_Nonnull scales, const float *_Nonnull zeros,
                                int64_t parameter_stride, const int32_t *_Nonnull group_of, float maxq,
                                uint8_t *_Nonnull codes, float *_Nonnull errors, double *_Nonnull loss);

    // gptq_block with a feedback between output rows (two-sided rounding) on `panels` panels, at most ZN_ROW_PANELS:
    // in every column i, row by row,
    //   t = w[i] + before[i] + sum over the earlier rows k here of f[k][row] * (w - q) of row k, k ascending,
    //   q = the value whose code is nearest to t, e = (w - q) / U[i,i]
    // and then as gptq_block. All rows of gptq_block's arrays, and besides:
    //   before   [rows][columns], rows before_stride apart: what the rows of earlier panels add
    //   f        [rows][rows], rows f_stride apart: strictly upper
    //   differences  w - q of row r, column i at r * 16 + i / 16 * difference_stride + i % 16, written
    void (*_Nonnull gptq_rows)(int64_t panels, int64_t columns, float *_Nonnull w, int64_t w_stride,
                               float *_Nonnull original, int64_t original_stride, const float *_Nonnull u,
                               int64_t u_stride, const float *_Nonnull scales, const float *_Nonnull zeros,
                               int64_t parameter_stride, const int32_t *_Nonnull group_of, float maxq,
                               uint8_t *_Nonnull codes, float *_Nonnull errors, double *_Nonnull loss,
                               const float *_Nonnull before, int64_t before_stride, const float *_Nonnull f,
                               int64_t f_stride, float *_Nonnull differences, int64_t difference_stride);

    // What rounding one group of 16 output rows loses with each of some scales:
    //   losses[c][lane] = sum_i importance[i] * e^2,  e = w[i] - s * clamp(round_half_even(w[i] * (1 / s)), low, high)
    // with s, low and high of candidate c and the lane; columns ascending, one fused multiply-add each.
    //   w [columns][16]    scales, low, high, losses [candidates][16]
    void (*_Nonnull rounding_losses)(int64_t columns, const float *_Nonnull w, const float *_Nonnull importance,
                                     int64_t candidates, const float *_Nonnull scales, const float *_Nonnull low,
                                     const float *_Nonnull high, float *_Nonnull losses);

    // ---- refinement of codes and scales, on panels of 16 output rows (lanes) ------------------------------------
    // centered[i][lane] = codes[i][lane] - zeros[lane]
    void (*_Nonnull center_codes)(int64_t columns, const uint8_t *_Nonnull codes, const float *_Nonnull zeros,
                                  float *_Nonnull centered);
    // errors[i][lane] = w[i][lane] - scales[lane] * (codes[i][lane] - zeros[lane]), rounded once: columns of one group.
    void (*_Nonnull residuals)(int64_t columns, const float *_Nonnull w, const uint8_t *_Nonnull codes,
                               const float *_Nonnull scales, const float *_Nonnull zeros, float *_Nonnull errors);
    // sums[lane] += sum_i a[i][lane] * b[i][lane] in doubles, columns ascending, each product exact.
    void (*_Nonnull dot_lanes)(int64_t columns, const float *_Nonnull a, const float *_Nonnull b,
                               double *_Nonnull sums);
    // Coordinate descent over one block of columns. Of panel p, the strides being in elements:
    //   gradients [panels][columns][16]: (w - q) H of the block's columns, used up
    //   errors, codes [columns][16] at p * error_stride and p * code_stride: w - q, and the codes
    //   scales [groups][16] at p * scale_stride; column j is of group group_of[j]
    // h: columns x columns, the block of H, rows h_stride apart. For each column j:
    //   code' = clamp(round_half_even(code + g[j] / (H[j,j] * s)), 0, maxq), d = s * (code' - code), error -= d,
    //   g[i] -= H[j,i] * d for i > j, one fused multiply-add each.
    void (*_Nonnull descend_block)(int64_t panels, int64_t columns, float *_Nonnull gradients, float *_Nonnull errors,
                                   int64_t error_stride, const float *_Nonnull h, int64_t h_stride,
                                   const float *_Nonnull scales, int64_t scale_stride,
                                   const int32_t *_Nonnull group_of, float maxq, uint8_t *_Nonnull codes,
                                   int64_t code_stride);

    // ---- element-wise -----------------------------------------------------------------------------------------
    void (*_Nonnull widen)(float *_Nonnull y, const void *_Nonnull x, zn_float_type type, int64_t n);
    // Round to nearest even; overflow to infinity, NaN stays NaN.
    void (*_Nonnull narrow)(void *_Nonnull y, const float *_Nonnull x, zn_float_type type, int64_t n);
    // y = x * weight / sqrt(mean(x^2) + eps); y may be x.
    void (*_Nonnull rms_norm)(float *_Nonnull y, const float *_Nonnull x, const float *_Nonnull weight, int64_t n,
                              float eps);
    // With s = x + added + residual, NULL counting as 0: y = (s - mean(s)) / sqrt(mean((s - mean(s))^2) + eps) * weight + bias; y
    // may be x or residual.
    void (*_Nonnull layer_norm)(float *_Nonnull y, const float *_Nonnull x, const float *_Nullable added,
                                const float *_Nullable residual, const float *_Nonnull weight,
                                const float *_Nonnull bias, int64_t n, float eps);
    // In place, of s = x + bias, NULL counting as 0: s / 2 * (1 + erf(s / sqrt 2)), the error below 3e-7 * |s|; its form with
    // tanh; max(s, 0).
    void (*_Nonnull gelu)(float *_Nonnull x, const float *_Nullable bias, int64_t n);
    void (*_Nonnull gelu_tanh)(float *_Nonnull x, const float *_Nullable bias, int64_t n);
    void (*_Nonnull relu)(float *_Nonnull x, const float *_Nullable bias, int64_t n);
    // A panel [n][16]: every lane becomes its softmax over n, summed in ascending order.
    void (*_Nonnull softmax_panel)(float *_Nonnull panel, int64_t n);
    // x = tanh(x) in place, the error below 2e-7.
    void (*_Nonnull hyperbolic_tangent)(float *_Nonnull x, int64_t n);
    // y += x
    void (*_Nonnull add)(float *_Nonnull y, const float *_Nonnull x, int64_t n);
    // y *= x
    void (*_Nonnull multiply)(float *_Nonnull y, const float *_Nonnull x, int64_t n);
    // q = round_half_even(x * 127 / max|x|); returns the scale max|x| / 127, so that x is about scale * q. All zeros: 0.
    float (*_Nonnull quantize_vector)(int8_t *_Nonnull q, const float *_Nonnull x, int64_t n);
    // y = silu(gate) * up; y may be gate or up.
    void (*_Nonnull silu_multiply)(float *_Nonnull y, const float *_Nonnull gate, const float *_Nonnull up, int64_t n);
    // Backward of silu_multiply, dy being the gradient of y: gate becomes its gradient dy * up * silu'(gate), and up its
    // gradient dy * silu(gate).
    void (*_Nonnull silu_multiply_gradient)(float *_Nonnull gate, float *_Nonnull up, const float *_Nonnull dy, int64_t n);
    // Backward of rms_norm: dx += the gradient of x, when dy is that of y.
    void (*_Nonnull rms_norm_gradient)(float *_Nonnull dx, const float *_Nonnull dy, const float *_Nonnull x,
                                       const float *_Nonnull weight, int64_t n, float eps);
    // Backward of layer_norm, x being the sum that is normalized: dx += the gradient of x, when dy is that of y.
    void (*_Nonnull layer_norm_gradient)(float *_Nonnull dx, const float *_Nonnull dy, const float *_Nonnull x,
                                         const float *_Nonnull weight, int64_t n, float eps);
    // Backward of gelu, gelu_tanh and relu, dy being the gradient of y: x becomes its gradient dy * y'(x + bias), NULL counting as
    // 0. The slope of relu at 0 is 0.
    void (*_Nonnull gelu_gradient)(float *_Nonnull x, const float *_Nullable bias, const float *_Nonnull dy, int64_t n);
    void (*_Nonnull gelu_tanh_gradient)(float *_Nonnull x, const float *_Nullable bias, const float *_Nonnull dy,
                                        int64_t n);
    void (*_Nonnull relu_gradient)(float *_Nonnull x, const float *_Nullable bias, const float *_Nonnull dy, int64_t n);
    // Backward of a softmax with probabilities p: dp = p * (dp - mean) * factor, where mean is sum(p * dp).
    void (*_Nonnull softmax_gradient)(float *_Nonnull dp, const float *_Nonnull p, float mean, float factor, int64_t n);
    // sum of x * y (16-lane order, one fused multiply-add each).
    float (*_Nonnull dot)(const float *_Nonnull x, const float *_Nonnull y, int64_t n);
    // Neox rotation of one head in place: pair (e, e + rotary/2), cosines and sines [rotary / 2].
    void (*_Nonnull rotate)(float *_Nonnull head, const float *_Nonnull cosines, const float *_Nonnull sines,
                            int64_t rotary);
    float (*_Nonnull maximum)(const float *_Nonnull x, int64_t n);
    // x = exp(x - shift) in place; returns the sum (16-lane order).
    float (*_Nonnull exp_sum)(float *_Nonnull x, float shift, int64_t n);
    // sum of exp(x - shift) in double, x untouched.
    double (*_Nonnull sum_exp)(const float *_Nonnull x, float shift, int64_t n);
    // x *= factor
    void (*_Nonnull scale)(float *_Nonnull x, float factor, int64_t n);
    // CRC-32 of bytes, continuing from crc, as zlib's crc32 gives it; NULL: this table has none faster than zlib's.
    uint32_t (*_Nullable crc32)(uint32_t crc, const uint8_t *_Nonnull bytes, int64_t n);
    // A product's register tile without its loads: what products can reach at most. Every multiply-add reads three
    // registers of its own, as in a product; some cores do more of them when two operands are shared, which is of no use
    // to anybody. Returns how many multiplications and additions were done.
    double (*_Nonnull burn)(int64_t rounds, float *_Nonnull result);
    // The same for products of pairs of bf16, or of floats where attend() multiplies these.
    double (*_Nonnull burn_pairs)(int64_t rounds, float *_Nonnull result);
    // The same for the byte products of gemm_int8. `result` takes 16 whole numbers.
    double (*_Nonnull burn_bytes)(int64_t rounds, int32_t *_Nonnull result);
} zn_kernels;

// The fastest table this machine can run, or the one the environment variable ZHINAO_ISA names (scalar, avx2, avx512,
// neon; faulty: a wrong one, for tests). Resolved once. A name that this machine cannot run gives NULL from zn_kernels_requested().
const zn_kernels *_Nonnull zn_kernels_best(void);

// What ZHINAO_ISA asks for: NULL when it is set to something this machine (CPU or operating system) cannot run.
const zn_kernels *_Nullable zn_kernels_requested(void);

// Table for `isa`, or NULL when this CPU or its operating system cannot run it. ZN_ISA_SCALAR is never NULL: it is the
// reference every other table is tested against.
const zn_kernels *_Nullable zn_kernels_for(zn_isa isa);

// Asks for the lines of `bytes` bytes at `address` to come into the second-level cache; harmless for any address.
static inline void zn_prefetch(uintptr_t address, int64_t bytes) {
    for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch((const char *)(address + (uintptr_t)at), 0, 2);
}

// A hint to the core that this thread is spinning.
static inline void zn_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}
