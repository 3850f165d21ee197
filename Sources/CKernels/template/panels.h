// Panels of floats: making them, and multiplying one vector with them.

ZN_INLINE void pack_panel_typed(float *panel, const void *b, const zn_float_type type, int64_t row_stride,
                                int64_t rows, int64_t k) {
    v16 block[16];
    int64_t step = 0;
    for (; step + 16 <= k; step += 16) {
        for (int r = 0; r < 16; r++) block[r] = r < rows ? load_typed(b, type, r * row_stride + step) : v_set(0);
        v_transpose(block);
        for (int j = 0; j < 16; j++) v_store(panel + (step + j) * 16, block[j]);
    }
    if (step < k) {
        const int64_t rest = k - step;
        for (int r = 0; r < 16; r++) {
            block[r] = r < rows ? load_typed_n(b, type, r * row_stride + step, rest) : v_set(0);
        }
        v_transpose(block);
        for (int64_t j = 0; j < rest; j++) v_store(panel + (step + j) * 16, block[j]);
    }
}

static void pack_panel(float *panel, const void *b, zn_float_type type, int64_t row_stride, int64_t rows, int64_t k) {
    if (type == ZN_F32) {
        pack_panel_typed(panel, b, ZN_F32, row_stride, rows, k);
    } else if (type == ZN_F16) {
        pack_panel_typed(panel, b, ZN_F16, row_stride, rows, k);
    } else {
        pack_panel_typed(panel, b, ZN_BF16, row_stride, rows, k);
    }
}

ZN_INLINE void widen_panel_typed(float *panel, const void *source, const zn_float_type type, int64_t k) {
    for (int64_t step = 0; step < k; step++) v_store(panel + step * 16, load_typed(source, type, step * 16));
}

static void widen_panel(float *panel, const void *source, zn_float_type type, int64_t k) {
    switch (type) {
    case ZN_F32: widen_panel_typed(panel, source, ZN_F32, k); return;
    case ZN_F16: widen_panel_typed(panel, source, ZN_F16, k); return;
    case ZN_BF16: widen_panel_typed(panel, source, ZN_BF16, k); return;
    case ZN_I8: widen_panel_typed(panel, source, ZN_I8, k); return;
    }
}

ZN_INLINE void gemv_some_panels(const int count, float *y, const float *x, const void *b, const zn_float_type type,
                                int64_t first, int64_t panel_stride, int64_t k, bool add) {
    v16 sum[8];
    for (int p = 0; p < count; p++) sum[p] = add ? v_load(y + (first + p) * 16) : v_set(0);
    for (int64_t step = 0; step < k; step++) {
        const v16 left = v_set(x[step]);
#pragma clang loop unroll(full)
        for (int p = 0; p < count; p++) {
            sum[p] = v_fma(left, load_typed(b, type, (first + p) * panel_stride + step * 16), sum[p]);
        }
    }
    for (int p = 0; p < count; p++) v_store(y + (first + p) * 16, sum[p]);
}

ZN_INLINE void gemv_panels_typed(float *y, const float *x, const void *b, const zn_float_type type,
                                 int64_t panel_stride, int64_t panels, int64_t k, bool add) {
    int64_t p = 0;
    for (; p + GEMV_PANELS <= panels; p += GEMV_PANELS) {
        gemv_some_panels(GEMV_PANELS, y, x, b, type, p, panel_stride, k, add);
    }
    for (; p + 4 <= panels; p += 4) gemv_some_panels(4, y, x, b, type, p, panel_stride, k, add);
    for (; p < panels; p++) gemv_some_panels(1, y, x, b, type, p, panel_stride, k, add);
}

static void gemv_panels(float *y, const float *x, const void *b, zn_float_type type, int64_t panel_stride,
                        int64_t panels, int64_t k, bool add) {
    switch (type) {
    case ZN_F32: gemv_panels_typed(y, x, b, ZN_F32, panel_stride, panels, k, add); return;
    case ZN_F16: gemv_panels_typed(y, x, b, ZN_F16, panel_stride, panels, k, add); return;
    case ZN_BF16: gemv_panels_typed(y, x, b, ZN_BF16, panel_stride, panels, k, add); return;
    case ZN_I8: gemv_panels_typed(y, x, b, ZN_I8, panel_stride, panels, k, add); return;
    }
}
