// int8.h: one row and a few, straight from the packed fields: to unpack them to memory would cost more than the products.

// How far ahead of the products their codes are fetched: the hardware's prefetcher starts anew at every page.
#ifndef PREFETCH_BYTES
#define PREFETCH_BYTES 6144
#endif
#define PREFETCH_GROUPS 16

ZN_INLINE void fetch_codes(const uint8_t *codes) {
    if (zn_is_intel) {
        __builtin_prefetch(codes, 0, 2);
    } else {
        __builtin_prefetch(codes);
    }
}

// The next 64 bytes of a panel's codes; the panels of a range follow one another. They come from memory, once.
ZN_INLINE v16i next_codes(const uint8_t **codes) {
    fetch_codes(*codes + PREFETCH_BYTES);
    const v16i fields = vi_load(*codes);
    *codes += 64;
    return fields;
}

// Rows in tiles as quantize_rows() leaves them, one panel, all spans, added to y [rows][16].
ZN_INLINE void int8_few(const int rows, const int bits, const int8_t *packed, const float *x_scales, const float *x_sums,
                        int64_t block, const uint8_t *codes, const uint16_t *scales, const uint8_t *zeros,
                        int64_t group_size, int64_t k, float *y) {
    const int inputs = BLOCK_INPUTS(bits);
    const int64_t blocks = k / block, spans = zn_int8_spans(k, group_size);
    int64_t at = 0;
    for (int64_t span = 0; span < spans; span++) {
        const int64_t group = at / group_size, end = at + span_length(at, k, group_size);
        const v16 scale = span_scale(scales + group * 16, bits), zero = span_zero(zeros, bits, group);
        const float *x_sum = x_sums + span * 2 * INT8_ROWS;
        v16 total[INT8_FEW_ROWS];
#pragma clang loop unroll(full)
        for (int i = 0; i < rows; i++) {
            const float *own = x_sum + i / INT8_ROWS * INT8_ROWS * 2 * spans + i % INT8_ROWS;
            total[i] = v_fnma(zero, v_set(own[0]), v_set(own[INT8_ROWS]));
        }
        while (at < end) {
            const float *x_scale = x_scales + at / block * INT8_ROWS;
            v16i sum[INT8_FEW_ROWS];
#pragma clang loop unroll(full)
            for (int i = 0; i < rows; i++) sum[i] = vi_set(SUM_START_BITS);
            for (const int64_t block_end = at + block; at < block_end; at += ZN_INT8_PART) {
                v16i part_sum[INT8_FEW_ROWS];
#pragma clang loop unroll(full)
                for (int i = 0; i < rows; i++) part_sum[i] = part_start(sum[i], bits);
#pragma clang loop unroll(full)
                for (int inside = 0; inside < ZN_INT8_PART; inside += inputs) {
                    const v16i fields = next_codes(&codes);
#pragma clang loop unroll(full)
                    for (int f = 0; f < inputs / 4; f++) {
                        const v16i right = vi_codes(fields, f, bits);
                        const int8_t *words = packed + (at + inside + 4 * f) * INT8_ROWS;
#pragma clang loop unroll(full)
                        for (int i = 0; i < rows; i++) {
                            const v16i left = vi_word(words + i / INT8_ROWS * INT8_ROWS * k + i % INT8_ROWS * 4);
                            part_sum[i] = part_dot(part_sum[i], right, left, bits);
                        }
                    }
                }
#pragma clang loop unroll(full)
                for (int i = 0; i < rows; i++) sum[i] = part_end(sum[i], part_sum[i], bits);
            }
#pragma clang loop unroll(full)
            for (int i = 0; i < rows; i++) {
                const v16 scale = v_set(x_scale[i / INT8_ROWS * INT8_ROWS * blocks + i % INT8_ROWS]);
                total[i] = v_fma(scale, vi_as_float(sum[i]), total[i]);
            }
        }
#pragma clang loop unroll(full)
        for (int i = 0; i < rows; i++) v_store(y + i * 16, v_fma(scale, total[i], v_load(y + i * 16)));
    }
}

#define ZN_INT8_FEW_CASE(ROWS)                                                                                         \
    if (rows <= ROWS) {                                                                                                \
        int8_few(ROWS, bits, packed, x_scales, x_sums, block, codes, scales, zeros, group_size, k, y);                        \
        return;                                                                                                        \
    }

// `rows` may be rounded up: the rows that fill the last tile up are zeros, and y has room for them.
ZN_INLINE void int8_few_of(int64_t rows, const int bits, const int8_t *packed, const float *x_scales,
                           const float *x_sums, int64_t block, const uint8_t *codes, const uint16_t *scales,
                           const uint8_t *zeros, int64_t group_size, int64_t k, float *y) {
    ZN_INT8_FEW_CASE(2)
#if INT8_FEW_ROWS > 4
    ZN_INT8_FEW_CASE(4)
    ZN_INT8_FEW_CASE(6)
    ZN_INT8_FEW_CASE(8)
#endif
    ZN_INT8_FEW_CASE(INT8_FEW_ROWS)
}

#define ZN_INT8_FEW(BITS)                                                                                              \
    static __attribute__((noinline)) void int8_few_##BITS(                                                             \
        int64_t rows, const int8_t *packed, const float *x_scales, const float *x_sums, int64_t block,                 \
        const uint8_t *codes, const uint16_t *scales, const uint8_t *zeros, int64_t group_size, int64_t k, float *y) { \
        int8_few_of(rows, BITS, packed, x_scales, x_sums, block, codes, scales, zeros, group_size, k, y);              \
    }
ZN_INT8_FEW(2)
ZN_INT8_FEW(4)
ZN_INT8_FEW(8)

// gemm_int8() for up to ZN_INT8_FEW_MOST rows.
static void gemm_int8_few(int64_t m, const int8_t *packed, const float *x_scales, const float *x_sums, int64_t block,
                          const uint8_t *codes, int bits, const uint16_t *scales, const uint8_t *zeros,
                          int64_t group_size, int64_t groups, int64_t panel_code_bytes, int64_t panels, int64_t k,
                          float *y, int64_t y_row_stride) {
    const int64_t blocks = k / block, spans = zn_int8_spans(k, group_size);
    for (int64_t p = 0; p < panels; p++) {
        for (int64_t i = 0; i < m; i += INT8_FEW_ROWS) {
            const int64_t rows = m - i < INT8_FEW_ROWS ? m - i : INT8_FEW_ROWS;
            float sums[INT8_FEW_ROWS * 16] __attribute__((aligned(64))) = {0};
            (bits == 4 ? int8_few_4 : bits == 8 ? int8_few_8 : int8_few_2)(
                rows, packed + i * k, x_scales + i * blocks, x_sums + i * 2 * spans, block, codes + p * panel_code_bytes,
                scales + p * groups * 16, zeros == NULL ? NULL : zeros + p * groups * 16, group_size, k, sums);
            for (int64_t r = 0; r < rows; r++) v_store(y + (i + r) * y_row_stride + p * 16, v_load(sums + r * 16));
        }
    }
}

// ---- one row

// One panel: a single stream that runs on through the panels of a range, as the hardware follows best.
ZN_INLINE void gemv_int8_panel(const int bits, const int8_t *x, const float *x_scales, const float *x_sums,
                               int64_t block, const uint8_t *codes, const uint16_t *scales, const uint8_t *zeros, int64_t group_size,
                               int64_t k, float *y) {
    const int inputs = BLOCK_INPUTS(bits);
    const int64_t spans = zn_int8_spans(k, group_size);
    v16 result = v_set(0);
    int64_t at = 0;
    for (int64_t span = 0; span < spans; span++) {
        const int64_t group = at / group_size, end = at + span_length(at, k, group_size);
        // A slow stream of its own, which goes on in the next panel; nobody else fetches it in time.
        __builtin_prefetch(scales + (group + PREFETCH_GROUPS) * 16);
        if (zeros != NULL) __builtin_prefetch(zeros + (group + PREFETCH_GROUPS) * 16);
        const v16 scale = span_scale(scales + group * 16, bits), zero = span_zero(zeros, bits, group);
        v16 total = v_fnma(zero, v_set(x_sums[2 * span]), v_set(x_sums[2 * span + 1]));
        while (at < end) {
            const v16 x_scale = v_set(*x_scales++);
            v16i sum[2] = {vi_set(SUM_START_BITS), vi_zero()};
            for (const int64_t block_end = at + block; at < block_end; at += ZN_INT8_PART) {
                // Two sums hide what a byte product takes; adding a pair takes one cycle.
                v16i part_sum[2] = {part_start(sum[0], bits), sum[1]};
#pragma clang loop unroll(full)
                for (int inside = 0; inside < ZN_INT8_PART; inside += inputs) {
                    const v16i fields = next_codes(&codes);
#pragma clang loop unroll(full)
                    for (int f = 0; f < inputs / 4; f++) {
                        const v16i left = vi_word(x + at + inside + 4 * f), right = vi_codes(fields, f, bits);
                        const int own = IN_PAIRS(bits) ? 0 : f % 2;
                        part_sum[own] = part_dot(part_sum[own], right, left, bits);
                    }
                }
                sum[0] = part_end(sum[0], part_sum[0], bits);
                sum[1] = part_sum[1];
            }
            total = v_fma(x_scale, vi_as_float(vi_add(sum[0], sum[1])), total);
        }
        result = v_fma(scale, total, result);
    }
    v_store(y, result);
}

ZN_INLINE void gemv_int8_bits(const int bits, const int8_t *x, const float *x_scales, const float *x_sums,
                              int64_t block, const uint8_t *codes, const uint16_t *scales, const uint8_t *zeros, int64_t group_size,
                              int64_t groups, int64_t panel_code_bytes, int64_t panels, int64_t k, float *y) {
    for (int64_t p = 0; p < panels; p++) {
        gemv_int8_panel(bits, x, x_scales, x_sums, block, codes + p * panel_code_bytes, scales + p * groups * 16,
                        zeros == NULL ? NULL : zeros + p * groups * 16, group_size, k, y + p * 16);
    }
}

static void gemv_int8(const int8_t *x, const float *x_scales, const float *x_sums, int64_t block, const uint8_t *codes,
                      int bits, const uint16_t *scales, const uint8_t *zeros, int64_t group_size, int64_t groups,
                      int64_t panel_code_bytes, int64_t panels, int64_t k, float *y) {
    if (bits == 4) {
        gemv_int8_bits(4, x, x_scales, x_sums, block, codes, scales, zeros, group_size, groups, panel_code_bytes,
                       panels, k, y);
    } else if (bits == 8) {
        gemv_int8_bits(8, x, x_scales, x_sums, block, codes, scales, zeros, group_size, groups, panel_code_bytes,
                       panels, k, y);
    } else {
        gemv_int8_bits(2, x, x_scales, x_sums, block, codes, scales, zeros, group_size, groups, panel_code_bytes,
                       panels, k, y);
    }
}
