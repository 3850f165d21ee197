// The `fast` mode of integer panels: activations become signed bytes, ZN_INT8_BLOCK inputs at a time, and products become
// byte dot products. No signs to handle on the weights' side: codes stay unsigned and the zero point leaves the loop,
//   sum (q - z) x = - z sum x + sum q x.
// Integer sums are exact and what follows is done in a fixed order, so every table gives the same bits. The weights'
// scale and zero point come in once a span (up to ZN_INT8_SPAN inputs of one group); between, sums stay in registers.

// Spans whose codes are unpacked together.
#define INT8_RUN ZN_INT8_RUN

ZN_INLINE int64_t span_length(int64_t at, int64_t k, int64_t group_size) {
    const int64_t group_end = (at / group_size + 1) * group_size, end = group_end < k ? group_end : k;
    return end - at < ZN_INT8_SPAN ? end - at : ZN_INT8_SPAN;
}

ZN_INLINE float root_mean_square(const float *x, int64_t k) {
    v16 sum = v_set(0);
    for (int64_t at = 0; at < k; at += 16) sum = v_fma(v_load(x + at), v_load(x + at), sum);
    float lane[16];
    v_store(lane, sum);
    return sqrtf(zn_lane_sum(lane) / (float)k);
}

ZN_INLINE float highest_of(v16 first, v16 second) {
    const v16 none = v_set(0);
    return v_highest(v_max(v_max(first, v_sub(none, first)), v_max(second, v_sub(none, second))));
}

// Makes inputs of a block beyond the limit 0 and puts them on the list, which has `taken` entries; returns how many then.
static int32_t take_outliers(float *block, int64_t first_input, float limit, zn_outlier *list, int32_t taken,
                             int64_t most) {
    for (int j = 0; j < ZN_INT8_BLOCK; j++) {
        if (!(fabsf(block[j]) > limit) || taken == most) continue;
        list[taken++] = (zn_outlier){(int32_t)(first_input + j), block[j]};
        block[j] = 0;
    }
    return taken;
}

static void add_outliers(float *y, int64_t y_panel_stride, const zn_outlier *outliers, int64_t count,
                         const uint8_t *codes, int bits, const uint16_t *scales, const uint8_t *zeros,
                         int64_t group_size, int64_t groups, int64_t panel_code_bytes, int64_t panels) {
    const int64_t inputs = BLOCK_INPUTS(bits);
    for (int64_t p = 0; p < panels; p++) {
        const uint8_t *panel_zeros = zeros == NULL ? NULL : zeros + p * groups * 16;
        v16 sum = v_load(y + p * y_panel_stride);
        for (int64_t o = 0; o < count; o++) {
            const int64_t input = outliers[o].input, group = input / group_size;
            const v16i block = vi_load(codes + p * panel_code_bytes + input / inputs * 64);
            const v16 code = block_codes(block, bits, (int)(input % inputs));
            const v16 scale = v_load_f16(scales + (p * groups + group) * 16);
            const v16 weight = v_mul(v_sub(code, group_zeros(panel_zeros, bits, group)), scale);
            sum = v_fma(v_set(outliers[o].value), weight, sum);
        }
        v_store(y + p * y_panel_stride, sum);
    }
}

// Rounds to nearest, ties to even, with scale = max |x| / 127 in each block; a block of zeros has scale 0.
static void quantize_rows(int8_t *packed, float *scales, float *sums, const float *x, int64_t row_stride, int64_t m,
                          int64_t k, int64_t group_size, int64_t tile_rows, zn_outlier *outliers, int32_t *counts) {
    const int64_t blocks = k / ZN_INT8_BLOCK, spans = zn_int8_spans(k, group_size), most = zn_outlier_most(k);
    for (int64_t i = 0; i < m; i++) {
        const float limit = outliers == NULL ? INFINITY : ZN_OUTLIER_LIMIT * root_mean_square(x + i * row_stride, k);
        int32_t taken = 0;
        int8_t *tile_start = packed + i / tile_rows * tile_rows * k;
        const int64_t inside = i % tile_rows, tile = i / tile_rows;
        int64_t at = 0;
        for (int64_t span = 0; span < spans; span++) {
            const int64_t end = at + span_length(at, k, group_size);
            float span_sum = 0;
            for (; at < end; at += ZN_INT8_BLOCK) {
                const float *source = x + i * row_stride + at;
                v16 first = v_load(source), second = v_load(source + 16);
                float highest = highest_of(first, second);
                if (highest > limit) {
                    float rest[ZN_INT8_BLOCK];
                    memcpy(rest, source, sizeof rest);
                    taken = take_outliers(rest, at, limit, outliers + i * most, taken, most);
                    first = v_load(rest), second = v_load(rest + 16);
                    highest = highest_of(first, second);
                }
                const v16 factor = v_set(highest > 0 ? 127.0f / highest : 0);
                const v16 rounded[2] = {rounded_to_byte(v_mul(first, factor)), rounded_to_byte(v_mul(second, factor))};
                int8_t q[ZN_INT8_BLOCK];
                for (int h = 0; h < 2; h++) v_to_bytes(q + 16 * h, rounded[h]);
                for (int word = 0; word < ZN_INT8_BLOCK / 4; word++) {
                    memcpy(tile_start + ((at / 4 + word) * tile_rows + inside) * 4, q + 4 * word, 4);
                }
                float lane[16], sum = 0;
                v_store(lane, v_add(rounded[0], rounded[1]));
                for (int j = 0; j < 16; j++) sum += lane[j];  // whole numbers: exact in any order
                const float scale = highest / 127.0f;
                scales[(tile * blocks + at / ZN_INT8_BLOCK) * tile_rows + inside] = scale;
                span_sum += scale * sum;
            }
            sums[(tile * spans + span) * tile_rows + inside] = span_sum;
        }
        counts[i] = taken;
    }
    // Rows that fill the last tile up.
    for (int64_t i = m; i % tile_rows != 0; i++) {
        int8_t *tile_start = packed + i / tile_rows * tile_rows * k;
        const int64_t inside = i % tile_rows, tile = i / tile_rows;
        for (int64_t word = 0; word < k / 4; word++) memset(tile_start + (word * tile_rows + inside) * 4, 0, 4);
        for (int64_t b = 0; b < blocks; b++) scales[(tile * blocks + b) * tile_rows + inside] = 0;
        for (int64_t span = 0; span < spans; span++) sums[(tile * spans + span) * tile_rows + inside] = 0;
    }
}

// 64 bytes of fields -> one vector of bytes for each four inputs.
ZN_INLINE void unpack_bytes(uint8_t *bytes, const uint8_t *codes, const int bits, int64_t first_k, int64_t count) {
    const int inputs = BLOCK_INPUTS(bits);
    codes += first_k / inputs * 64;
    for (int64_t at = 0; at < count; at += inputs) {
        const v16i block = vi_load(codes);
        codes += 64;
#pragma clang loop unroll(full)
        for (int f = 0; f < inputs / 4; f++) vi_store(bytes + (at / 4 + f) * 64, vi_byte_field(block, f * bits, bits));
    }
}

static const float no_sums[16] __attribute__((aligned(64))) = {0};

// A run of neighbouring spans, whose codes are unpacked together.
typedef struct {
    int64_t count, inputs;
    int64_t blocks[INT8_RUN];  // of each span
    v16 scales[INT8_RUN][INT8_PANELS];
    v16 zeros[INT8_RUN][INT8_PANELS];
    float middle;  // the zero point of all outputs where they have no zeros of their own, else 0
    bool first;    // of a product: there are no sums to add to
} int8_run;

// One tile of `rows` x `panels` over a run of spans, added to y, or written if the run is the first.
//   a      words of four inputs, INT8_ROWS a step       bytes   per panel, 64 a step
ZN_INLINE void int8_tile(const int rows, const int panels, const bool wide_codes, const int8_run *run, int first_panel,
                         const int8_t *a, const uint8_t *bytes, int64_t bytes_stride, const float *x_scales,
                         const float *x_sums, float *y, int64_t y_row_stride, int64_t y_panel_stride) {
    for (int64_t span = 0; span < run->count; span++) {
        // The zero points' part first: where they are all alike it is one number for a row.
        v16 total[INT8_ROWS][INT8_PANELS];
        if (run->middle != 0) {
#pragma clang loop unroll(full)
            for (int i = 0; i < rows; i++) {
                const v16 offset = v_set(-run->middle * x_sums[i]);
#pragma clang loop unroll(full)
                for (int p = 0; p < panels; p++) total[i][p] = offset;
            }
        } else {
#pragma clang loop unroll(full)
            for (int i = 0; i < rows; i++) {
                const v16 x_sum = v_set(x_sums[i]);
#pragma clang loop unroll(full)
                for (int p = 0; p < panels; p++) {
                    total[i][p] = v_fnma(run->zeros[span][first_panel + p], x_sum, v_set(0));
                }
            }
        }
        for (int64_t block = 0; block < run->blocks[span]; block++) {
            v16i sum[INT8_ROWS][INT8_PANELS];
#pragma clang loop unroll(full)
            for (int i = 0; i < rows; i++) {
#pragma clang loop unroll(full)
                for (int p = 0; p < panels; p++) sum[i][p] = vi_zero();
            }
#pragma clang loop unroll(full)
            for (int step = 0; step < ZN_INT8_BLOCK / 4; step++) {
                v16i right[INT8_PANELS];
#pragma clang loop unroll(full)
                for (int p = 0; p < panels; p++) right[p] = vi_load(bytes + p * bytes_stride + step * 64);
#pragma clang loop unroll(full)
                for (int i = 0; i < rows; i++) {
                    const v16i left = vi_word(a + (step * INT8_ROWS + i) * 4);
#pragma clang loop unroll(full)
                    for (int p = 0; p < panels; p++) {
                        sum[i][p] =
                            wide_codes ? vi_dot_wide(sum[i][p], right[p], left) : vi_dot(sum[i][p], right[p], left);
                    }
                }
            }
#pragma clang loop unroll(full)
            for (int i = 0; i < rows; i++) {
                const v16 x_scale = v_set(x_scales[i]);
#pragma clang loop unroll(full)
                for (int p = 0; p < panels; p++) total[i][p] = v_fma(x_scale, v_from_int(sum[i][p]), total[i][p]);
            }
            a += ZN_INT8_BLOCK * INT8_ROWS;
            bytes += ZN_INT8_BLOCK / 4 * 64;
            x_scales += INT8_ROWS;
        }
        const bool adds = span > 0 || !run->first;
#pragma clang loop unroll(full)
        for (int i = 0; i < rows; i++) {
#pragma clang loop unroll(full)
            for (int p = 0; p < panels; p++) {
                float *out = y + i * y_row_stride + p * y_panel_stride;
                const v16 before = v_load(adds ? out : no_sums);
                v_store(out, v_fma(run->scales[span][first_panel + p], total[i][p], before));
            }
        }
        x_sums += INT8_ROWS;
    }
}

#define ZN_INT8_CASE(ROWS)                                                                                             \
    case ROWS:                                                                                                         \
        int8_tile(ROWS, panels, wide_codes, run, first_panel, a, bytes, bytes_stride, x_scales, x_sums, y,              \
                  y_row_stride, y_panel_stride);                                                                       \
        return;

ZN_INLINE void int8_tile_of(int64_t rows, const int panels, const bool wide_codes, const int8_run *run, int first_panel,
                            const int8_t *a, const uint8_t *bytes, int64_t bytes_stride, const float *x_scales,
                            const float *x_sums, float *y, int64_t y_row_stride, int64_t y_panel_stride) {
    switch (rows) {
        ZN_INT8_CASE(1)
        ZN_INT8_CASE(2)
#if INT8_ROWS > 3
        ZN_INT8_CASE(3)
#endif
#if INT8_ROWS > 4
        ZN_INT8_CASE(4)
        ZN_INT8_CASE(5)
#endif
        default:
            int8_tile(INT8_ROWS, panels, wide_codes, run, first_panel, a, bytes, bytes_stride, x_scales, x_sums, y,
                      y_row_stride, y_panel_stride);
    }
}

static __attribute__((noinline)) void int8_tile_full(int64_t rows, const int8_run *run, const int8_t *a,
                                                     const uint8_t *bytes, int64_t bytes_stride, const float *x_scales,
                                                     const float *x_sums, float *y, int64_t y_row_stride,
                                                     int64_t y_panel_stride) {
    int8_tile_of(rows, INT8_PANELS, false, run, 0, a, bytes, bytes_stride, x_scales, x_sums, y, y_row_stride,
                 y_panel_stride);
}

static __attribute__((noinline)) void int8_tile_single(int64_t rows, const int8_run *run, int panel, const int8_t *a,
                                                       const uint8_t *bytes, const float *x_scales,
                                                       const float *x_sums, float *y, int64_t y_row_stride) {
    int8_tile_of(rows, 1, false, run, panel, a, bytes, 0, x_scales, x_sums, y, y_row_stride, 0);
}

static __attribute__((noinline)) void int8_tile_wide(int64_t rows, const int8_run *run, int panel, const int8_t *a,
                                                     const uint8_t *bytes, const float *x_scales, const float *x_sums,
                                                     float *y, int64_t y_row_stride) {
    int8_tile_of(rows, 1, true, run, panel, a, bytes, 0, x_scales, x_sums, y, y_row_stride, 0);
}

// ---- a few rows: as one row, straight from the packed fields; to unpack them to memory would cost more than the products

// How far ahead of the products their codes are fetched: the hardware's prefetcher starts anew at every page.
#define PREFETCH_BYTES 6144
#define PREFETCH_GROUPS 16

ZN_INLINE void fetch_codes(const uint8_t *codes) {
    if (zn_fetches_to_second_level) {
        __builtin_prefetch(codes, 0, 2);
    } else {
        __builtin_prefetch(codes);
    }
}

// The sums of a tile's registers, for one panel.
#define INT8_FEW_ROWS (INT8_ROWS * INT8_PANELS)
// With more rows unpacking pays: it is done once for all of them.
#define ZN_INT8_FEW_MOST (2 * INT8_FEW_ROWS)

// Rows in tiles as quantize_rows() leaves them, one panel, all spans, added to y [rows][16].
ZN_INLINE void int8_few(const int rows, const int bits, const int8_t *packed, const float *x_scales, const float *x_sums,
                        const uint8_t *codes, const uint16_t *scales, const uint8_t *zeros, int64_t group_size, int64_t k,
                        float *y) {
    const int inputs = BLOCK_INPUTS(bits);
    const int64_t blocks = k / ZN_INT8_BLOCK, spans = zn_int8_spans(k, group_size);
    int64_t at = 0;
    for (int64_t span = 0; span < spans; span++) {
        const int64_t group = at / group_size, end = at + span_length(at, k, group_size);
        const v16 scale = v_load_f16(scales + group * 16), zero = group_zeros(zeros, bits, group);
        const float *x_sum = x_sums + span * INT8_ROWS;
        v16 total[INT8_FEW_ROWS];
#pragma clang loop unroll(full)
        for (int i = 0; i < rows; i++) {
            const v16 own = v_set(x_sum[i / INT8_ROWS * INT8_ROWS * spans + i % INT8_ROWS]);
            total[i] = v_fnma(zero, own, v_set(0));
        }
        for (; at < end; at += ZN_INT8_BLOCK) {
            v16i sum[INT8_FEW_ROWS];
#pragma clang loop unroll(full)
            for (int i = 0; i < rows; i++) sum[i] = vi_zero();
#pragma clang loop unroll(full)
            for (int inside = 0; inside < ZN_INT8_BLOCK; inside += inputs) {
                // The weights come from memory, once; the next panel follows this one.
                fetch_codes(codes + PREFETCH_BYTES);
                const v16i fields = vi_load(codes);
                codes += 64;
#pragma clang loop unroll(full)
                for (int f = 0; f < inputs / 4; f++) {
                    const v16i right = vi_byte_field(fields, f * bits, bits);
                    const int8_t *words = packed + (at + inside + 4 * f) * INT8_ROWS;
#pragma clang loop unroll(full)
                    for (int i = 0; i < rows; i++) {
                        const v16i left = vi_word(words + i / INT8_ROWS * INT8_ROWS * k + i % INT8_ROWS * 4);
                        sum[i] = bits == 8 ? vi_dot_wide(sum[i], right, left) : vi_dot(sum[i], right, left);
                    }
                }
            }
            const float *x_scale = x_scales + at / ZN_INT8_BLOCK * INT8_ROWS;
#pragma clang loop unroll(full)
            for (int i = 0; i < rows; i++) {
                const v16 scale = v_set(x_scale[i / INT8_ROWS * INT8_ROWS * blocks + i % INT8_ROWS]);
                total[i] = v_fma(scale, v_from_int(sum[i]), total[i]);
            }
        }
#pragma clang loop unroll(full)
        for (int i = 0; i < rows; i++) v_store(y + i * 16, v_fma(scale, total[i], v_load(y + i * 16)));
    }
}

#define ZN_INT8_FEW_CASE(ROWS)                                                                                         \
    if (rows <= ROWS) {                                                                                                \
        int8_few(ROWS, bits, packed, x_scales, x_sums, codes, scales, zeros, group_size, k, y);                        \
        return;                                                                                                        \
    }

// `rows` may be rounded up: the rows that fill the last tile up are zeros, and y has room for them.
ZN_INLINE void int8_few_of(int64_t rows, const int bits, const int8_t *packed, const float *x_scales,
                           const float *x_sums, const uint8_t *codes, const uint16_t *scales, const uint8_t *zeros,
                           int64_t group_size, int64_t k, float *y) {
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
        int64_t rows, const int8_t *packed, const float *x_scales, const float *x_sums, const uint8_t *codes,          \
        const uint16_t *scales, const uint8_t *zeros, int64_t group_size, int64_t k, float *y) {                       \
        int8_few_of(rows, BITS, packed, x_scales, x_sums, codes, scales, zeros, group_size, k, y);                     \
    }
ZN_INT8_FEW(2)
ZN_INT8_FEW(4)
ZN_INT8_FEW(8)

// gemm_int8() for up to ZN_INT8_FEW_MOST rows; y is zero.
static void gemm_int8_few(int64_t m, const int8_t *packed, const float *x_scales, const float *x_sums,
                          const uint8_t *codes, int bits, const uint16_t *scales, const uint8_t *zeros,
                          int64_t group_size, int64_t groups, int64_t panel_code_bytes, int64_t panels, int64_t k,
                          float *y, int64_t y_panel_stride) {
    const int64_t blocks = k / ZN_INT8_BLOCK, spans = zn_int8_spans(k, group_size);
    for (int64_t p = 0; p < panels; p++) {
        for (int64_t i = 0; i < m; i += INT8_FEW_ROWS) {
            const int64_t rows = m - i < INT8_FEW_ROWS ? m - i : INT8_FEW_ROWS;
            (bits == 4 ? int8_few_4 : bits == 8 ? int8_few_8 : int8_few_2)(
                rows, packed + i * k, x_scales + i * blocks, x_sums + i * spans, codes + p * panel_code_bytes,
                scales + p * groups * 16, zeros == NULL ? NULL : zeros + p * groups * 16, group_size, k,
                y + p * y_panel_stride + i * 16);
        }
    }
}

static void gemm_int8(int64_t m, const int8_t *packed, const float *x_scales, const float *x_sums,
                      const uint8_t *codes, int bits, const uint16_t *scales, const uint8_t *zeros, int64_t group_size,
                      int64_t groups, int64_t panel_code_bytes, int64_t panels, int64_t k, float *y,
                      uint8_t *scratch) {
    const int64_t blocks = k / ZN_INT8_BLOCK, spans = zn_int8_spans(k, group_size);
    const int64_t y_panel_stride = (m + INT8_ROWS - 1) / INT8_ROWS * INT8_ROWS * 16;
    const int64_t bytes_stride = INT8_RUN * ZN_INT8_SPAN * 16;
    if (m <= ZN_INT8_FEW_MOST) {
        memset(y, 0, (size_t)(panels * y_panel_stride) * sizeof(float));
        gemm_int8_few(m, packed, x_scales, x_sums, codes, bits, scales, zeros, group_size, groups, panel_code_bytes,
                      panels, k, y, y_panel_stride);
        return;
    }
    for (int64_t p = 0; p < panels; p += INT8_PANELS) {
        const int64_t here = panels - p < INT8_PANELS ? panels - p : INT8_PANELS;
        int64_t first = 0, span = 0;
        while (span < spans) {
            // The bytes of a run stay in the first-level cache for all rows, and a tile's sums while it passes through them.
            int8_run run;
            run.count = 0, run.inputs = 0, run.first = span == 0;
            run.middle = zeros == NULL ? (float)(1 << (bits - 1)) : 0;
            for (; run.count < INT8_RUN && span + run.count < spans; run.count++) {
                const int64_t at = first + run.inputs, count = span_length(at, k, group_size), group = at / group_size;
                for (int64_t q = 0; q < here; q++) {
                    const uint8_t *panel = codes + (p + q) * panel_code_bytes;
                    uint8_t *bytes = scratch + q * bytes_stride + run.inputs * 16;
                    if (bits == 4) {
                        unpack_bytes(bytes, panel, 4, at, count);
                    } else if (bits == 8) {
                        unpack_bytes(bytes, panel, 8, at, count);
                    } else {
                        unpack_bytes(bytes, panel, 2, at, count);
                    }
                    run.scales[run.count][q] = v_load_f16(scales + ((p + q) * groups + group) * 16);
                    run.zeros[run.count][q] =
                        group_zeros(zeros == NULL ? NULL : zeros + (p + q) * groups * 16, bits, group);
                }
                run.blocks[run.count] = count / ZN_INT8_BLOCK;
                run.inputs += count;
            }
            // Lines of the next run's codes with each tile: they come from memory.
            const uint8_t *next = codes + p * panel_code_bytes + (first + run.inputs) * bits * 2;
            const int64_t lines = run.inputs * bits * 2 / 64;
            for (int64_t i = 0; i < m; i += INT8_ROWS) {
                const int64_t rows = m - i < INT8_ROWS ? m - i : INT8_ROWS, tile = i / INT8_ROWS;
                if (tile < lines) {
                    for (int64_t q = 0; q < here; q++) __builtin_prefetch(next + q * panel_code_bytes + tile * 64);
                }
                const int8_t *a = packed + i * k + first * INT8_ROWS;
                const float *xs = x_scales + (tile * blocks + first / ZN_INT8_BLOCK) * INT8_ROWS;
                const float *xu = x_sums + (tile * spans + span) * INT8_ROWS;
                float *out = y + p * y_panel_stride + i * 16;
                // The next tile's activations lie a row of tiles further on.
                if (i + INT8_ROWS < m) {
                    for (int64_t line = 0; line < run.inputs * INT8_ROWS; line += 64) {
                        __builtin_prefetch(a + k * INT8_ROWS + line);
                    }
                }
                if (bits != 8 && here == INT8_PANELS) {
                    int8_tile_full(rows, &run, a, scratch, bytes_stride, xs, xu, out, 16, y_panel_stride);
                } else {
                    for (int q = 0; q < here; q++) {
                        (bits == 8 ? int8_tile_wide : int8_tile_single)(
                            rows, &run, q, a, scratch + q * bytes_stride, xs, xu, out + q * y_panel_stride, 16);
                    }
                }
            }
            first += run.inputs;
            span += run.count;
        }
    }
}

// ---- one row: straight from the packed fields, nothing unpacked to memory

// One panel: a single stream that runs on through the panels of a range, as the hardware follows best.
ZN_INLINE void gemv_int8_panel(const int bits, const int8_t *x, const float *x_scales, const float *x_sums,
                               const uint8_t *codes, const uint16_t *scales, const uint8_t *zeros, int64_t group_size,
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
        const v16 scale = v_load_f16(scales + group * 16), zero = group_zeros(zeros, bits, group);
        v16 total = v_fnma(zero, v_set(x_sums[span]), v_set(0));
        for (; at < end; at += ZN_INT8_BLOCK) {
            v16i sum[2] = {vi_zero(), vi_zero()};
#pragma clang loop unroll(full)
            for (int inside = 0; inside < ZN_INT8_BLOCK; inside += inputs) {
                fetch_codes(codes + PREFETCH_BYTES);
                const v16i fields = vi_load(codes);
                codes += 64;
#pragma clang loop unroll(full)
                for (int f = 0; f < inputs / 4; f++) {
                    const v16i left = vi_word(x + at + inside + 4 * f), right = vi_byte_field(fields, f * bits, bits);
                    sum[f % 2] = bits == 8 ? vi_dot_wide(sum[f % 2], right, left) : vi_dot(sum[f % 2], right, left);
                }
            }
            total = v_fma(v_set(x_scales[at / ZN_INT8_BLOCK]), v_from_int(vi_add(sum[0], sum[1])), total);
        }
        result = v_fma(scale, total, result);
    }
    v_store(y, result);
}

ZN_INLINE void gemv_int8_bits(const int bits, const int8_t *x, const float *x_scales, const float *x_sums,
                              const uint8_t *codes, const uint16_t *scales, const uint8_t *zeros, int64_t group_size,
                              int64_t groups, int64_t panel_code_bytes, int64_t panels, int64_t k, float *y) {
    for (int64_t p = 0; p < panels; p++) {
        gemv_int8_panel(bits, x, x_scales, x_sums, codes + p * panel_code_bytes, scales + p * groups * 16,
                        zeros == NULL ? NULL : zeros + p * groups * 16, group_size, k, y + p * 16);
    }
}

static void gemv_int8(const int8_t *x, const float *x_scales, const float *x_sums, const uint8_t *codes,
                      int bits, const uint16_t *scales, const uint8_t *zeros, int64_t group_size, int64_t groups,
                      int64_t panel_code_bytes, int64_t panels, int64_t k, float *y) {
    if (bits == 4) {
        gemv_int8_bits(4, x, x_scales, x_sums, codes, scales, zeros, group_size, groups, panel_code_bytes,
                       panels, k, y);
    } else if (bits == 8) {
        gemv_int8_bits(8, x, x_scales, x_sums, codes, scales, zeros, group_size, groups, panel_code_bytes,
                       panels, k, y);
    } else {
        gemv_int8_bits(2, x, x_scales, x_sums, codes, scales, zeros, group_size, groups, panel_code_bytes,
                       panels, k, y);
    }
}

// The register tile of gemm_int8 without its loads, conversions and scales: what byte products can reach at most.
static double burn_bytes(int64_t rounds, int32_t *result) {
    v16i sums[INT8_ROWS][INT8_PANELS], left[2], right[INT8_PANELS];
    // Values the compiler cannot know, or it would do part of the work beforehand.
    const volatile int8_t seed = 3;
    uint8_t bytes[64];
    int8_t word[4];
#pragma clang loop unroll(full)
    for (int p = 0; p < INT8_PANELS; p++) {
        memset(bytes, seed + p, sizeof bytes);
        right[p] = vi_load(bytes);
    }
    for (int i = 0; i < 2; i++) {
        memset(word, seed - 2 * i, sizeof word);
        left[i] = vi_word(word);
    }
#pragma clang loop unroll(full)
    for (int i = 0; i < INT8_ROWS; i++) {
#pragma clang loop unroll(full)
        for (int p = 0; p < INT8_PANELS; p++) sums[i][p] = vi_zero();
    }
    for (int64_t round = 0; round < rounds; round++) {
#pragma clang loop unroll(full)
        for (int i = 0; i < INT8_ROWS; i++) {
#pragma clang loop unroll(full)
            for (int p = 0; p < INT8_PANELS; p++) sums[i][p] = vi_dot(sums[i][p], right[p], left[i % 2]);
        }
    }
    v16i total = vi_zero();
    for (int i = 0; i < INT8_ROWS; i++) {
        for (int p = 0; p < INT8_PANELS; p++) total = vi_add(total, sums[i][p]);
    }
    vi_store(result, total);
    return (double)rounds * INT8_ROWS * INT8_PANELS * 64 * 2;
}
