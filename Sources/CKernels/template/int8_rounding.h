// int8.h: activations to bytes, and those that are kept out of it.

ZN_INLINE float root_mean_square(const float *x, int64_t k) {
    v16 sum = v_set(0);
    for (int64_t at = 0; at < k; at += 16) sum = v_fma(v_load(x + at), v_load(x + at), sum);
    float lane[16];
    v_store(lane, sum);
    return sqrtf(zn_lane_sum(lane) / (float)k);
}

ZN_INLINE float block_highest(const int vectors, const float *x) {
    const v16 none = v_set(0);
    v16 highest = none;
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) {
        const v16 own = v_load(x + 16 * v);
        highest = v_max(highest, v_max(own, v_sub(none, own)));
    }
    return v_highest(highest);
}

// Makes inputs of a block beyond the limit 0 and puts them on the list, which has `taken` entries; returns how many then.
static int32_t take_outliers(float *block, int64_t length, int64_t first_input, float limit, zn_outlier *list,
                             int32_t taken, int64_t most) {
    for (int64_t j = 0; j < length; j++) {
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

ZN_INLINE float rounded_to_half(float x) {
    uint16_t half[16];
    float back[16];
    v_store_f16(half, v_set(x));
    v_store(back, v_load_f16(half));
    return back[0];
}

// Where a tile's part of a run is, `before` being the rows of the tiles before it and `padded` all rows of whole tiles.
typedef struct {
    int8_t *bytes;
    float *scales, *sums;
} int8_packed;
ZN_INLINE int8_packed tile_of_run(const int8_packed *all, const int8_run *run, int64_t before, int64_t padded,
                                  int64_t block) {
    return (int8_packed){all->bytes + run->first * padded + before * run->inputs,
                         all->scales + (run->first * padded + before * run->inputs) / block,
                         all->sums + 2 * (run->first_span * padded + before * run->spans)};
}

// Rounds to nearest, ties to even, with scale = max |x| / 127 in each block; a block of zeros has scale 0.
ZN_INLINE void quantize_rows_in(const int64_t block, const int8_packed *all, const float *x, int64_t row_stride,
                                int64_t first, int64_t m, int64_t rows, int64_t k, int64_t group_size,
                                int64_t tile_rows, zn_outlier *outliers, int32_t *counts) {
    const int vectors = (int)(block / 16);
    const int64_t spans = zn_int8_spans(k, group_size), most = zn_outlier_most(k);
    const int64_t padded = (rows + tile_rows - 1) / tile_rows * tile_rows;
    for (int64_t i = first; i < first + m; i++, x += row_stride) {
        const float limit = outliers == NULL ? INFINITY : ZN_OUTLIER_LIMIT * root_mean_square(x, k);
        int32_t taken = 0;
        const int64_t inside = i % tile_rows, before = i - inside;
        for (int8_run run = {0}; run.first_span < spans; run.first_span += run.spans, run.first += run.inputs) {
            run = run_from(run.first, run.first_span, spans, rows, k, group_size);
            int8_packed out = tile_of_run(all, &run, before, padded, block);
            int64_t at = run.first;
            for (int64_t span = 0; span < run.spans; span++) {
                const int64_t end = at + span_length(at, k, group_size);
                v16 lanes = v_set(0);
                float span_scales = 0;
                for (; at < end; at += block) {
                    const float *source = x + at;
                    float rest[ZN_INT8_BLOCK_MOST];
                    float highest = block_highest(vectors, source);
                    if (highest > limit) {
                        memcpy(rest, source, sizeof(float) * block);
                        taken = take_outliers(rest, block, at, limit, outliers + i * most, taken, most);
                        source = rest;
                        highest = block_highest(vectors, source);
                    }
                    const v16 factor = v_set(highest > 0 ? 127.0f / highest : 0);
                    int8_t q[ZN_INT8_BLOCK_MOST];
                    int8_t *const bytes = tile_rows == 1 ? out.bytes : q;
                    v16 sum = v_set(0);
#pragma clang loop unroll(full)
                    for (int v = 0; v < vectors; v++) {
                        const v16 rounded = rounded_to_byte(v_mul(v_load(source + 16 * v), factor));
                        v_to_bytes(bytes + 16 * v, rounded);
                        sum = v_add(sum, rounded);
                    }
                    for (int64_t word = 0; tile_rows > 1 && word < block / 4; word++) {
                        memcpy(out.bytes + (word * tile_rows + inside) * 4, q + 4 * word, 4);
                    }
                    out.bytes += block * tile_rows;
                    const float scale = outliers == NULL ? rounded_to_half(highest / 127.0f) : highest / 127.0f;
                    out.scales[inside] = scale;
                    out.scales += tile_rows;
                    lanes = v_fma(v_set(scale), sum, lanes);
                    span_scales += scale;
                }
                float lane[16];
                v_store(lane, lanes);
                const float span_sum = zn_lane_sum(lane);
                out.sums[inside] = span_sum;
                out.sums[tile_rows + inside] = fmaf(-128, span_sum, -ZN_SUM_START * span_scales);
                out.sums += 2 * tile_rows;
            }
        }
        counts[i] = taken;
    }
    // Rows that fill the last tile up.
    for (int64_t i = first + m; i % tile_rows != 0; i++) {
        const int64_t inside = i % tile_rows, before = i - inside;
        for (int8_run run = {0}; run.first_span < spans; run.first_span += run.spans, run.first += run.inputs) {
            run = run_from(run.first, run.first_span, spans, rows, k, group_size);
            const int8_packed out = tile_of_run(all, &run, before, padded, block);
            for (int64_t w = 0; w < run.inputs / 4; w++) memset(out.bytes + (w * tile_rows + inside) * 4, 0, 4);
            for (int64_t b = 0; b < run.inputs / block; b++) out.scales[b * tile_rows + inside] = 0;
            for (int64_t s = 0; s < 2 * run.spans; s++) out.sums[s * tile_rows + inside] = 0;
        }
    }
}

static void quantize_rows(int8_t *packed, float *scales, float *sums, const float *x, int64_t row_stride, int64_t first,
                          int64_t m, int64_t rows, int64_t k, int64_t group_size, int64_t block, int64_t tile_rows,
                          zn_outlier *outliers, int32_t *counts) {
    const int8_packed all = {packed, scales, sums};
    if (block == ZN_INT8_PART) {
        quantize_rows_in(ZN_INT8_PART, &all, x, row_stride, first, m, rows, k, group_size, tile_rows, outliers, counts);
    } else {
        quantize_rows_in(ZN_INT8_BLOCK_MOST, &all, x, row_stride, first, m, rows, k, group_size, tile_rows, outliers,
                         counts);
    }
}
