// Refinement of codes and scales that a solver has found, lanes = output rows.

static void center_codes(int64_t columns, const uint8_t *codes, const float *zeros, float *centered) {
    const v16 zero = v_load(zeros);
    for (int64_t i = 0; i < columns; i++) v_store(centered + i * 16, v_sub(v_load_u8(codes + i * 16), zero));
}

static void residuals(int64_t columns, const float *w, const uint8_t *codes, const float *scales, const float *zeros,
                      float *errors) {
    const v16 scale = v_load(scales), zero = v_load(zeros);
    for (int64_t i = 0; i < columns; i++) {
        const v16 code = v_sub(v_load_u8(codes + i * 16), zero);
        v_store(errors + i * 16, v_fnma(scale, code, v_load(w + i * 16)));
    }
}

// The product of two floats is exact in double, so that each lane rounds once for each column.
static void dot_lanes(int64_t columns, const float *a, const float *b, double *sums) {
    double sum[16];
    for (int r = 0; r < 16; r++) sum[r] = sums[r];
    for (int64_t i = 0; i < columns; i++) {
        for (int r = 0; r < 16; r++) sum[r] += (double)a[i * 16 + r] * (double)b[i * 16 + r];
    }
    for (int r = 0; r < 16; r++) sums[r] = sum[r];
}

static void descend_block(int64_t panels, int64_t columns, float *gradients, float *errors, int64_t error_stride,
                          const float *h, int64_t h_stride, const float *scales, int64_t scale_stride,
                          const int32_t *group_of, float maxq, uint8_t *codes, int64_t code_stride) {
    const v16 high = v_set(maxq);
    for (int64_t p = 0; p < panels; p++) {
        float *gradient = gradients + p * columns * 16, *error = errors + p * error_stride;
        uint8_t *code = codes + p * code_stride;
        for (int64_t j = 0; j < columns; j++) {
            const v16 scale = v_load(scales + p * scale_stride + group_of[j] * 16);
            const v16 before = v_load_u8(code + j * 16);
            const v16 step = v_div(v_load(gradient + j * 16), v_mul(v_set(h[j * h_stride + j]), scale));
            // A step that is not a number leads to 0.
            const v16 after = v_min(v_max(v_round(v_add(before, step)), v_set(0)), high);
            float lane[16];
            uint8_t moved[16];
            v_store(lane, after);
            uint8_t difference = 0;
            for (int r = 0; r < 16; r++) {
                moved[r] = (uint8_t)lane[r];
                difference |= moved[r] ^ code[j * 16 + r];
            }
            if (difference == 0) continue;
            for (int r = 0; r < 16; r++) code[j * 16 + r] = moved[r];
            const v16 change = v_mul(scale, v_sub(after, before));
            v_store(error + j * 16, v_sub(v_load(error + j * 16), change));
            for (int64_t i = j + 1; i < columns; i++) {
                v_store(gradient + i * 16, v_fnma(v_set(h[j * h_stride + i]), change, v_load(gradient + i * 16)));
            }
        }
    }
}
