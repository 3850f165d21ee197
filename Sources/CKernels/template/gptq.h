// The column sweep of GPTQ inside one block, lanes = output rows.

// Columns whose errors stay in registers while they are taken from later columns: one at a time, every later column is read
// and written for each, and a store a cycle sets the pace.
#define GPTQ_STRIP 4
// Panels that go from strip to strip together: the columns of a strip wait for each other, those of two panels do not, and
// the weights of more would not stay in the first-level cache.
#define GPTQ_PANELS 2

// What a block has for one panel.
typedef struct gptq_panel {
    float *w, *original;
    const float *scales, *zeros;
    uint8_t *codes;
    float *errors;
    double *loss;
} gptq_panel;

ZN_INLINE gptq_panel gptq_panel_of(int64_t p, int64_t columns, float *w, int64_t w_stride, float *original,
                                   int64_t original_stride, const float *scales, const float *zeros,
                                   int64_t parameter_stride, uint8_t *codes, float *errors, double *loss) {
    return (gptq_panel){w + p * w_stride,
                        original + p * original_stride,
                        scales + p * parameter_stride,
                        zeros + p * parameter_stride,
                        codes + p * columns * 16,
                        errors + p * columns * 16,
                        loss + p * 16};
}

// One column, corrected by the `count` columns before it.
ZN_INLINE void gptq_quantize(const int count, int64_t i, const gptq_panel *panel, const float *u, int64_t u_stride,
                             const int32_t *group_of, v16 high) {
    v16 weight = v_load(panel->w + i * 16);
#pragma clang loop unroll(full)
    for (int b = count; b > 0; b--) {
        weight = v_fnma(v_set(u[(i - b) * u_stride + i]), v_load(panel->errors + (i - b) * 16), weight);
    }
    const v16 scale = v_load(panel->scales + group_of[i] * 16), zero = v_load(panel->zeros + group_of[i] * 16);
    const v16 code = v_min(v_max(v_add(v_round(v_div(weight, scale)), zero), v_set(0)), high);
    const v16 quantized = v_mul(scale, v_sub(code, zero));
    const v16 error = v_div(v_sub(weight, quantized), v_set(u[i * u_stride + i]));
    v_store(panel->w + i * 16, weight);
    v_store(panel->original + i * 16, v_sub(v_load(panel->original + i * 16), quantized));
    v_store(panel->errors + i * 16, error);
    float code_lane[16], error_lane[16];
    v_store(code_lane, code);
    v_store(error_lane, error);
    for (int r = 0; r < 16; r++) {
        panel->codes[i * 16 + r] = (uint8_t)code_lane[r];
        panel->loss[r] += 0.5 * ((double)error_lane[r] * (double)error_lane[r]);
    }
}

// Every later column of the block sees these columns' errors, in their order; the columns are independent of each other.
ZN_INLINE void gptq_correct(const int count, int64_t first, const gptq_panel *panel, const float *u, int64_t u_stride,
                            int64_t columns) {
    v16 error[GPTQ_STRIP];
#pragma clang loop unroll(full)
    for (int c = 0; c < count; c++) error[c] = v_load(panel->errors + (first + c) * 16);
    for (int64_t j = first + count; j < columns; j++) {
        v16 weight = v_load(panel->w + j * 16);
#pragma clang loop unroll(full)
        for (int c = 0; c < count; c++) weight = v_fnma(v_set(u[(first + c) * u_stride + j]), error[c], weight);
        v_store(panel->w + j * 16, weight);
    }
}

ZN_INLINE void gptq_strip(const int count, int64_t first, const gptq_panel *panels, int64_t panel_count, const float *u,
                          int64_t u_stride, int64_t columns, const int32_t *group_of, v16 high) {
#pragma clang loop unroll(full)
    for (int c = 0; c < count; c++) {
        for (int64_t p = 0; p < panel_count; p++) gptq_quantize(c, first + c, panels + p, u, u_stride, group_of, high);
    }
    for (int64_t p = 0; p < panel_count; p++) gptq_correct(count, first, panels + p, u, u_stride, columns);
}

// Scales whose losses are summed side by side: each sum is a chain of its own.
#define LOSS_SCALES 4

ZN_INLINE void rounding_losses_of(const int count, int64_t columns, const float *w, const float *importance,
                                  const float *scales, const float *low, const float *high, float *losses) {
    v16 scale[LOSS_SCALES], inverse[LOSS_SCALES], lowest[LOSS_SCALES], highest[LOSS_SCALES], sum[LOSS_SCALES];
#pragma clang loop unroll(full)
    for (int c = 0; c < count; c++) {
        scale[c] = v_load(scales + c * 16);
        inverse[c] = v_div(v_set(1), scale[c]);
        lowest[c] = v_load(low + c * 16);
        highest[c] = v_load(high + c * 16);
        sum[c] = v_set(0);
    }
    for (int64_t i = 0; i < columns; i++) {
        const v16 weight = v_load(w + i * 16), factor = v_set(importance[i]);
#pragma clang loop unroll(full)
        for (int c = 0; c < count; c++) {
            const v16 code = v_min(v_max(v_round(v_mul(weight, inverse[c])), lowest[c]), highest[c]);
            const v16 error = v_fnma(scale[c], code, weight);
            sum[c] = v_fma(v_mul(error, factor), error, sum[c]);
        }
    }
#pragma clang loop unroll(full)
    for (int c = 0; c < count; c++) v_store(losses + c * 16, sum[c]);
}

static void rounding_losses(int64_t columns, const float *w, const float *importance, int64_t candidates,
                            const float *scales, const float *low, const float *high, float *losses) {
    int64_t c = 0;
    for (; c + LOSS_SCALES <= candidates; c += LOSS_SCALES) {
        rounding_losses_of(LOSS_SCALES, columns, w, importance, scales + c * 16, low + c * 16, high + c * 16,
                           losses + c * 16);
    }
    for (; c < candidates; c++) {
        rounding_losses_of(1, columns, w, importance, scales + c * 16, low + c * 16, high + c * 16, losses + c * 16);
    }
}

static void gptq_block(int64_t panels, int64_t columns, float *w, int64_t w_stride, float *original,
                       int64_t original_stride, const float *u, int64_t u_stride, const float *scales,
                       const float *zeros, int64_t parameter_stride, const int32_t *group_of, float maxq,
                       uint8_t *codes, float *errors, double *loss) {
    const v16 high = v_set(maxq);
    for (int64_t first = 0; first < panels; first += GPTQ_PANELS) {
        const int64_t here = panels - first < GPTQ_PANELS ? panels - first : GPTQ_PANELS;
        gptq_panel some[GPTQ_PANELS];
        for (int64_t q = 0; q < here; q++) {
            some[q] = gptq_panel_of(first + q, columns, w, w_stride, original, original_stride, scales, zeros,
                                    parameter_stride, codes, errors, loss);
        }
        int64_t i = 0;
        for (; i + GPTQ_STRIP <= columns; i += GPTQ_STRIP) {
            gptq_strip(GPTQ_STRIP, i, some, here, u, u_stride, columns, group_of, high);
        }
        for (; i < columns; i++) gptq_strip(1, i, some, here, u, u_stride, columns, group_of, high);
    }
}

// One column of gptq_rows: rows wait for each other, so each is rounded alone, and its difference is taken to the later ones
// 16 at a time. Plain C on single floats rounds as the vectors' operations do.
ZN_INLINE void gptq_rows_column(int64_t panels, int64_t i, const gptq_panel *panel, float diagonal,
                                const int32_t *group_of, float maxq, const float *before, int64_t before_stride,
                                const float *f, int64_t f_stride, float *difference_of_rows) {
    float target[16 * ZN_ROW_PANELS];
    const int64_t group = (int64_t)group_of[i] * 16;
    for (int64_t p = 0; p < panels; p++) {
        for (int r = 0; r < 16; r++) {
            target[p * 16 + r] = panel[p].w[i * 16 + r] + before[(p * 16 + r) * before_stride];
        }
    }
    for (int64_t p = 0; p < panels; p++) {
        for (int64_t r = 0; r < 16; r++) {
            const int64_t row = p * 16 + r;
            const float weight = panel[p].w[i * 16 + r];
            const float scale = panel[p].scales[group + r], zero = panel[p].zeros[group + r];
            const float rounded = rintf(target[row] / scale) + zero;
            // As the vectors' max and min: the second operand when either is NaN.
            const float positive = rounded > 0 ? rounded : 0;
            const float code = positive < maxq ? positive : maxq;
            const float quantized = scale * (code - zero);
            const float difference = weight - quantized;
            const float error = difference / diagonal;
            panel[p].original[i * 16 + r] = panel[p].original[i * 16 + r] - quantized;
            panel[p].errors[i * 16 + r] = error;
            panel[p].codes[i * 16 + r] = (uint8_t)code;
            panel[p].loss[r] += 0.5 * ((double)error * (double)error);
            difference_of_rows[row * 16] = difference;
            const v16 spread = v_set(difference);
            for (int64_t later = p; later < panels; later++) {
                float *at = target + later * 16;
                v_store(at, v_fma(spread, v_load(f + row * f_stride + later * 16), v_load(at)));
            }
        }
    }
}

static void gptq_rows(int64_t panels, int64_t columns, float *w, int64_t w_stride, float *original,
                      int64_t original_stride, const float *u, int64_t u_stride, const float *scales,
                      const float *zeros, int64_t parameter_stride, const int32_t *group_of, float maxq,
                      uint8_t *codes, float *errors, double *loss, const float *before, int64_t before_stride,
                      const float *f, int64_t f_stride, float *differences, int64_t difference_stride) {
    gptq_panel some[ZN_ROW_PANELS];
    for (int64_t p = 0; p < panels; p++) {
        some[p] = gptq_panel_of(p, columns, w, w_stride, original, original_stride, scales, zeros, parameter_stride, codes,
                                errors, loss);
    }
    for (int64_t i = 0; i < columns; i++) {
        gptq_rows_column(panels, i, some, u[i * u_stride + i], group_of, maxq, before + i, before_stride, f, f_stride,
                         differences + i / 16 * difference_stride + i % 16);
        for (int64_t p = 0; p < panels; p++) gptq_correct(1, i, some + p, u, u_stride, columns);
    }
}
