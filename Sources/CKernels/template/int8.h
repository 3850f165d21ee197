// The `fast` mode of integer panels: activations become signed bytes, ZN_INT8_BLOCK inputs at a time, and products become
// byte dot products. No signs to handle on the weights' side: codes stay unsigned and the zero point leaves the loop,
//   sum (q - z) x = - z sum x + sum q x.
// Integer sums are exact and what follows is done in a fixed order, so every table gives the same bits. The weights'
// scale and zero point come in once a span (up to ZN_INT8_SPAN inputs of one group); between, sums stay in registers.
//
// No sum is converted to a float: it starts as the bits of ZN_SUM_START = 1.5 * 2^23, whose last place is 1, and while it stays
// within 2^22 of that its bits are those of the float ZN_SUM_START + sum. What the start adds to a span is taken off
// beforehand, with the scales' sum. Codes count 2^(8 - bits) times, so a unit of a sum is 16 last places at 4 bits:
// what such large numbers round off is a hundredth of what rounding activations does.
#define SUM_START_BITS 0x4B400000
#define CODE_FACTOR(bits) (1 << (8 - (bits)))

// Spans whose codes are unpacked together.
#define INT8_RUN ZN_INT8_RUN

ZN_INLINE int64_t span_length(int64_t at, int64_t k, int64_t group_size) {
    const int64_t group_end = (at / group_size + 1) * group_size, end = group_end < k ? group_end : k;
    return end - at < ZN_INT8_SPAN ? end - at : ZN_INT8_SPAN;
}

// Scale and zero point of a group as a span needs them: codes count CODE_FACTOR times, and 128 of the zero point is already
// taken off (quantize_rows), all of it where all outputs' is in the middle.
ZN_INLINE v16 span_scale(const uint16_t *scales, const int bits) {
    return v_mul(v_load_f16(scales), v_set(1.0f / CODE_FACTOR(bits)));
}
ZN_INLINE v16 span_zero(const uint8_t *zeros, const int bits, int64_t group) {
    return v_sub(v_mul(group_zeros(zeros, bits, group), v_set(CODE_FACTOR(bits))), v_set(128));
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

// The weights of one input for the outputs of a panel.
ZN_INLINE v16 weights_of_input(const uint8_t *codes, int bits, const uint16_t *scales, const uint8_t *zeros,
                               int64_t group_size, int64_t input) {
    const int64_t inputs = BLOCK_INPUTS(bits), group = input / group_size;
    const v16 code = block_codes(vi_load(codes + input / inputs * 64), bits, (int)(input % inputs));
    return v_mul(v_sub(code, group_zeros(zeros, bits, group)), v_load_f16(scales + group * 16));
}

// Rows keep out mostly the same inputs: the weights of so many are remembered while the rows pass by a panel.
#define REMEMBERED_INPUTS 64

static void add_outliers(int64_t m, float *y, int64_t y_row_stride, const zn_outlier *outliers, const int32_t *counts,
                         const uint8_t *codes, int bits, const uint16_t *scales, const uint8_t *zeros,
                         int64_t group_size, int64_t groups, int64_t panel_code_bytes, int64_t panels, int64_t k) {
    float weights[REMEMBERED_INPUTS * 16] __attribute__((aligned(64)));
    int32_t inputs[REMEMBERED_INPUTS];
    const int64_t most = zn_outlier_most(k);
    for (int64_t p = 0; p < panels; p++) {
        const uint8_t *panel_codes = codes + p * panel_code_bytes;
        const uint16_t *panel_scales = scales + p * groups * 16;
        const uint8_t *panel_zeros = zeros == NULL ? NULL : zeros + p * groups * 16;
        if (m > 1) memset(inputs, 0xFF, sizeof inputs);
        for (int64_t i = 0; i < m; i++) {
            if (counts[i] == 0) continue;
            const zn_outlier *own = outliers + i * most;
            float *out = y + i * y_row_stride + p * 16;
            v16 sum = v_load(out);
            for (int64_t o = 0; o < counts[i]; o++) {
                const int32_t input = own[o].input, slot = input % REMEMBERED_INPUTS;
                v16 weight;
                if (m > 1 && inputs[slot] == input) {
                    weight = v_load(weights + slot * 16);
                } else {
                    weight = weights_of_input(panel_codes, bits, panel_scales, panel_zeros, group_size, input);
                    v_store(weights + slot * 16, weight);
                    inputs[slot] = input;
                }
                sum = v_fma(v_set(own[o].value), weight, sum);
            }
            v_store(out, sum);
        }
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
            v16 lanes = v_set(0);
            float span_scales = 0;
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
                if (tile_rows == 1) {
                    for (int h = 0; h < 2; h++) v_to_bytes(tile_start + at + 16 * h, rounded[h]);
                } else {
                    int8_t q[ZN_INT8_BLOCK];
                    for (int h = 0; h < 2; h++) v_to_bytes(q + 16 * h, rounded[h]);
                    for (int word = 0; word < ZN_INT8_BLOCK / 4; word++) {
                        memcpy(tile_start + ((at / 4 + word) * tile_rows + inside) * 4, q + 4 * word, 4);
                    }
                }
                const float scale = highest / 127.0f;
                scales[(tile * blocks + at / ZN_INT8_BLOCK) * tile_rows + inside] = scale;
                lanes = v_fma(v_set(scale), v_add(rounded[0], rounded[1]), lanes);
                span_scales += scale;
            }
            float lane[16];
            v_store(lane, lanes);
            const float span_sum = zn_lane_sum(lane);
            float *const own = sums + (tile * spans + span) * 2 * tile_rows + inside;
            own[0] = span_sum;
            own[tile_rows] = fmaf(-128, span_sum, -ZN_SUM_START * span_scales);
        }
        counts[i] = taken;
    }
    // Rows that fill the last tile up.
    for (int64_t i = m; i % tile_rows != 0; i++) {
        int8_t *tile_start = packed + i / tile_rows * tile_rows * k;
        const int64_t inside = i % tile_rows, tile = i / tile_rows;
        for (int64_t word = 0; word < k / 4; word++) memset(tile_start + (word * tile_rows + inside) * 4, 0, 4);
        for (int64_t b = 0; b < blocks; b++) scales[(tile * blocks + b) * tile_rows + inside] = 0;
        for (int64_t span = 0; span < 2 * spans; span++) sums[(tile * spans * 2 + span) * tile_rows + inside] = 0;
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
        for (int f = 0; f < inputs / 4; f++) vi_store(bytes + (at / 4 + f) * 64, vi_codes(block, f, bits));
    }
}

static const float no_sums[16] __attribute__((aligned(64))) = {0};

// A run of neighbouring spans, whose codes are unpacked together.
typedef struct {
    int64_t count, inputs;
    int64_t blocks[INT8_RUN];  // of each span
    v16 scales[INT8_RUN][INT8_PANELS];
    v16 zeros[INT8_RUN][INT8_PANELS];
    bool symmetric;    // no zero points but the middle
    bool first, last;  // of a product: there are no sums to add to; they are done
} int8_run;

// Where a tile's sums are: between spans in `sums`, panels one after the other, at the end in rows of y.
typedef struct {
    float *sums, *y;
    int64_t sums_panel_stride, y_row_stride;
} int8_out;

ZN_INLINE int8_out int8_out_at(const int8_out *all, int64_t row, int64_t panel) {
    return (int8_out){all->sums + panel * all->sums_panel_stride + row * 16, all->y + row * all->y_row_stride + panel * 16,
                      all->sums_panel_stride, all->y_row_stride};
}

// One tile of `rows` x `panels` over a run of spans, added to its sums, or written if the run is the first.
//   a      words of four inputs, INT8_ROWS a step       bytes   per panel, 64 a step
ZN_INLINE void int8_tile(const int rows, const int panels, const int bits, const int8_run *run, int first_panel,
                         const int8_t *a, const uint8_t *bytes, int64_t bytes_stride, const float *x_scales,
                         const float *x_sums, const int8_out *out) {
    for (int64_t span = 0; span < run->count; span++) {
        // The zero points' part first: where they are all alike it is one number for a row.
        v16 total[INT8_ROWS][INT8_PANELS];
#pragma clang loop unroll(full)
        for (int i = 0; i < rows; i++) {
            const v16 offset = v_set(x_sums[INT8_ROWS + i]);
#pragma clang loop unroll(full)
            for (int p = 0; p < panels; p++) {
                total[i][p] = run->symmetric
                                  ? offset
                                  : v_fnma(run->zeros[span][first_panel + p], v_set(x_sums[i]), offset);
            }
        }
        for (int64_t block = 0; block < run->blocks[span]; block++) {
            v16i sum[INT8_ROWS][INT8_PANELS];
#pragma clang loop unroll(full)
            for (int i = 0; i < rows; i++) {
#pragma clang loop unroll(full)
                for (int p = 0; p < panels; p++) sum[i][p] = vi_set(SUM_START_BITS);
            }
#pragma clang loop unroll(full)
            for (int step = 0; step < ZN_INT8_BLOCK / 4; step++) {
                v16i right[INT8_PANELS];
#pragma clang loop unroll(full)
                for (int p = 0; p < panels; p++) right[p] = vi_load(bytes + p * bytes_stride + step * 64);
#pragma clang loop unroll(full)
                for (int i = 0; i < rows; i++) {
                    const int8_t *word = a + (step * INT8_ROWS + i) * 4;
#ifdef INT8_FOLDED_ROWS
                    if (i >= INT8_ROWS - INT8_FOLDED_ROWS) {
#pragma clang loop unroll(full)
                        for (int p = 0; p < panels; p++) sum[i][p] = vi_dot_word(sum[i][p], right[p], word);
                        continue;
                    }
#endif
                    const v16i left = vi_word(word);
#pragma clang loop unroll(full)
                    for (int p = 0; p < panels; p++) sum[i][p] = vi_dot(sum[i][p], right[p], left, bits);
                }
            }
#pragma clang loop unroll(full)
            for (int i = 0; i < rows; i++) {
                const v16 x_scale = v_set(x_scales[i]);
#pragma clang loop unroll(full)
                for (int p = 0; p < panels; p++) total[i][p] = v_fma(x_scale, vi_as_float(sum[i][p]), total[i][p]);
            }
            a += ZN_INT8_BLOCK * INT8_ROWS;
            bytes += ZN_INT8_BLOCK / 4 * 64;
            x_scales += INT8_ROWS;
        }
        const bool adds = span > 0 || !run->first, ends = run->last && span + 1 == run->count;
        const int64_t row_stride = ends ? out->y_row_stride : 16, panel_stride = ends ? 16 : out->sums_panel_stride;
        float *const to = ends ? out->y : out->sums;
#pragma clang loop unroll(full)
        for (int i = 0; i < rows; i++) {
#pragma clang loop unroll(full)
            for (int p = 0; p < panels; p++) {
                const v16 before = v_load(adds ? out->sums + i * 16 + p * out->sums_panel_stride : no_sums);
                const v16 after = v_fma(run->scales[span][first_panel + p], total[i][p], before);
                v_store(to + i * row_stride + p * panel_stride, after);
            }
        }
        x_sums += 2 * INT8_ROWS;
    }
}

#define ZN_INT8_CASE(ROWS)                                                                                             \
    case ROWS:                                                                                                         \
        int8_tile(ROWS, panels, bits, run, first_panel, a, bytes, bytes_stride, x_scales, x_sums, out);                \
        return;

ZN_INLINE void int8_tile_of(int64_t rows, const int panels, const int bits, const int8_run *run, int first_panel,
                            const int8_t *a, const uint8_t *bytes, int64_t bytes_stride, const float *x_scales,
                            const float *x_sums, const int8_out *out) {
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
            int8_tile(INT8_ROWS, panels, bits, run, first_panel, a, bytes, bytes_stride, x_scales, x_sums, out);
    }
}

#define ZN_INT8_TILES(BITS)                                                                                            \
    static __attribute__((noinline)) void int8_tile_full_##BITS(                                                       \
        int64_t rows, const int8_run *run, const int8_t *a, const uint8_t *bytes, int64_t bytes_stride,                \
        const float *x_scales, const float *x_sums, const int8_out *out) {                                                    \
        int8_tile_of(rows, INT8_PANELS, BITS, run, 0, a, bytes, bytes_stride, x_scales, x_sums, out);                  \
    }                                                                                                                  \
    static __attribute__((noinline)) void int8_tile_single_##BITS(                                                     \
        int64_t rows, const int8_run *run, int panel, const int8_t *a, const uint8_t *bytes, const float *x_scales,    \
        const float *x_sums, const int8_out *out) {                                                                           \
        int8_tile_of(rows, 1, BITS, run, panel, a, bytes, 0, x_scales, x_sums, out);                                   \
    }
ZN_INT8_TILES(2)
ZN_INT8_TILES(4)
ZN_INT8_TILES(8)

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
        const v16 scale = span_scale(scales + group * 16, bits), zero = span_zero(zeros, bits, group);
        const float *x_sum = x_sums + span * 2 * INT8_ROWS;
        v16 total[INT8_FEW_ROWS];
#pragma clang loop unroll(full)
        for (int i = 0; i < rows; i++) {
            const float *own = x_sum + i / INT8_ROWS * INT8_ROWS * 2 * spans + i % INT8_ROWS;
            total[i] = v_fnma(zero, v_set(own[0]), v_set(own[INT8_ROWS]));
        }
        for (; at < end; at += ZN_INT8_BLOCK) {
            v16i sum[INT8_FEW_ROWS];
#pragma clang loop unroll(full)
            for (int i = 0; i < rows; i++) sum[i] = vi_set(SUM_START_BITS);
#pragma clang loop unroll(full)
            for (int inside = 0; inside < ZN_INT8_BLOCK; inside += inputs) {
                // The weights come from memory, once; the next panel follows this one.
                fetch_codes(codes + PREFETCH_BYTES);
                const v16i fields = vi_load(codes);
                codes += 64;
#pragma clang loop unroll(full)
                for (int f = 0; f < inputs / 4; f++) {
                    const v16i right = vi_codes(fields, f, bits);
                    const int8_t *words = packed + (at + inside + 4 * f) * INT8_ROWS;
#pragma clang loop unroll(full)
                    for (int i = 0; i < rows; i++) {
                        const v16i left = vi_word(words + i / INT8_ROWS * INT8_ROWS * k + i % INT8_ROWS * 4);
                        sum[i] = vi_dot(sum[i], right, left, bits);
                    }
                }
            }
            const float *x_scale = x_scales + at / ZN_INT8_BLOCK * INT8_ROWS;
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

// gemm_int8() for up to ZN_INT8_FEW_MOST rows.
static void gemm_int8_few(int64_t m, const int8_t *packed, const float *x_scales, const float *x_sums,
                          const uint8_t *codes, int bits, const uint16_t *scales, const uint8_t *zeros,
                          int64_t group_size, int64_t groups, int64_t panel_code_bytes, int64_t panels, int64_t k,
                          float *y, int64_t y_row_stride) {
    const int64_t blocks = k / ZN_INT8_BLOCK, spans = zn_int8_spans(k, group_size);
    for (int64_t p = 0; p < panels; p++) {
        for (int64_t i = 0; i < m; i += INT8_FEW_ROWS) {
            const int64_t rows = m - i < INT8_FEW_ROWS ? m - i : INT8_FEW_ROWS;
            float sums[INT8_FEW_ROWS * 16] __attribute__((aligned(64))) = {0};
            (bits == 4 ? int8_few_4 : bits == 8 ? int8_few_8 : int8_few_2)(
                rows, packed + i * k, x_scales + i * blocks, x_sums + i * 2 * spans, codes + p * panel_code_bytes,
                scales + p * groups * 16, zeros == NULL ? NULL : zeros + p * groups * 16, group_size, k, sums);
            for (int64_t r = 0; r < rows; r++) v_store(y + (i + r) * y_row_stride + p * 16, v_load(sums + r * 16));
        }
    }
}

// Codes, scales and zero points of one panel for a run whose spans are known; it begins with input `first`.
static void read_run(int8_run *run, int64_t q, uint8_t *bytes, const uint8_t *codes, int bits, const uint16_t *scales,
                     const uint8_t *zeros, int64_t group_size, int64_t first) {
    if (bits == 4) {
        unpack_bytes(bytes, codes, 4, first, run->inputs);
    } else if (bits == 8) {
        unpack_bytes(bytes, codes, 8, first, run->inputs);
    } else {
        unpack_bytes(bytes, codes, 2, first, run->inputs);
    }
    for (int64_t s = 0; s < run->count; s++) {
        run->scales[s][q] = span_scale(scales + first / group_size * 16, bits);
        run->zeros[s][q] = span_zero(zeros, bits, first / group_size);
        first += run->blocks[s] * ZN_INT8_BLOCK;
    }
}

static void gemm_int8(int64_t m, const int8_t *packed, const float *x_scales, const float *x_sums,
                      const uint8_t *codes, int bits, const uint16_t *scales, const uint8_t *zeros, int64_t group_size,
                      int64_t groups, int64_t panel_code_bytes, int64_t panels, int64_t k, float *y,
                      int64_t y_row_stride, uint8_t *scratch) {
    const int64_t blocks = k / ZN_INT8_BLOCK, spans = zn_int8_spans(k, group_size);
    const int64_t bytes_stride = INT8_RUN * ZN_INT8_SPAN * 16;
    if (m <= ZN_INT8_FEW_MOST) {
        gemm_int8_few(m, packed, x_scales, x_sums, codes, bits, scales, zeros, group_size, groups, panel_code_bytes,
                      panels, k, y, y_row_stride);
        return;
    }
    const int8_out all = {(float *)(scratch + INT8_PANELS * bytes_stride), y, m * 16, y_row_stride};
    int64_t first = 0, span = 0;
    while (span < spans) {
        // The activations of a run stay in the second-level cache for all panels, its codes of a tile's panels in the first for
        // all rows, and a tile's sums while it passes through the run.
        int8_run run = {.symmetric = zeros == NULL, .first = span == 0};
        for (; run.count < INT8_RUN && span + run.count < spans; run.count++) {
            const int64_t count = span_length(first + run.inputs, k, group_size);
            run.blocks[run.count] = count / ZN_INT8_BLOCK;
            run.inputs += count;
        }
        run.last = span + run.count == spans;
        const int64_t code_bytes = run.inputs * bits * 2;
        for (int64_t p = 0; p < panels; p += INT8_PANELS) {
            const int64_t here = panels - p < INT8_PANELS ? panels - p : INT8_PANELS;
            for (int64_t q = 0; q < here; q++) {
                read_run(&run, q, scratch + q * bytes_stride, codes + (p + q) * panel_code_bytes, bits,
                         scales + (p + q) * groups * 16, zeros == NULL ? NULL : zeros + (p + q) * groups * 16, group_size,
                         first);
            }
            // Lines of the next panels' codes with each tile, or of the next run's: they come from memory.
            const bool more = p + INT8_PANELS < panels;
            const uint8_t *next = codes + (more ? (p + INT8_PANELS) * panel_code_bytes : 0) + first * bits * 2 +
                                  (more ? 0 : code_bytes);
            for (int64_t i = 0; i < m; i += INT8_ROWS) {
                const int64_t rows = m - i < INT8_ROWS ? m - i : INT8_ROWS, tile = i / INT8_ROWS;
                if (tile < code_bytes / 64) {
                    for (int64_t q = 0; q < here; q++) __builtin_prefetch(next + q * panel_code_bytes + tile * 64);
                }
                const int8_t *a = packed + i * k + first * INT8_ROWS;
                const float *xs = x_scales + (tile * blocks + first / ZN_INT8_BLOCK) * INT8_ROWS;
                const float *xu = x_sums + (tile * spans + span) * 2 * INT8_ROWS;
                // The next tile's activations lie a row of tiles further on; once the first lines are asked for, the hardware
                // goes on by itself.
                if (i + INT8_ROWS < m) {
                    for (int line = 0; line < 256; line += 64) __builtin_prefetch(a + k * INT8_ROWS + line);
                }
                // Handed over by address: a copy on the stack, written in parts and read at once, waits for its stores.
                const int8_out out = int8_out_at(&all, i, p);
                for (int64_t r = 0; run.last && r < rows; r++) {
                    for (int64_t q = 0; q < here; q++) prefetch_to_write(out.y + r * y_row_stride + q * 16);
                }
                if (here == INT8_PANELS) {
                    (bits == 4 ? int8_tile_full_4 : bits == 8 ? int8_tile_full_8 : int8_tile_full_2)(
                        rows, &run, a, scratch, bytes_stride, xs, xu, &out);
                } else {
                    for (int q = 0; q < here; q++) {
                        const int8_out own = int8_out_at(&all, i, p + q);
                        (bits == 4 ? int8_tile_single_4 : bits == 8 ? int8_tile_single_8 : int8_tile_single_2)(
                            rows, &run, q, a, scratch + q * bytes_stride, xs, xu, &own);
                    }
                }
            }
        }
        first += run.inputs;
        span += run.count;
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
        const v16 scale = span_scale(scales + group * 16, bits), zero = span_zero(zeros, bits, group);
        v16 total = v_fnma(zero, v_set(x_sums[2 * span]), v_set(x_sums[2 * span + 1]));
        for (; at < end; at += ZN_INT8_BLOCK) {
            v16i sum[2] = {vi_set(SUM_START_BITS), vi_zero()};
#pragma clang loop unroll(full)
            for (int inside = 0; inside < ZN_INT8_BLOCK; inside += inputs) {
                fetch_codes(codes + PREFETCH_BYTES);
                const v16i fields = vi_load(codes);
                codes += 64;
#pragma clang loop unroll(full)
                for (int f = 0; f < inputs / 4; f++) {
                    const v16i left = vi_word(x + at + inside + 4 * f), right = vi_codes(fields, f, bits);
                    sum[f % 2] = vi_dot(sum[f % 2], right, left, bits);
                }
            }
            total = v_fma(v_set(x_scales[at / ZN_INT8_BLOCK]), vi_as_float(vi_add(sum[0], sum[1])), total);
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
            for (int p = 0; p < INT8_PANELS; p++) sums[i][p] = vi_dot(sums[i][p], right[p], left[i % 2], 4);
        }
    }
    v16i total = vi_zero();
    for (int i = 0; i < INT8_ROWS; i++) {
        for (int p = 0; p < INT8_PANELS; p++) total = vi_add(total, sums[i][p]);
    }
    vi_store(result, total);
    return (double)rounds * INT8_ROWS * INT8_PANELS * 64 * 2;
}
