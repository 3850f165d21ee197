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

ZN_INLINE void copy_panels_typed(float *panels, int64_t panel_stride, const void *b, const zn_float_type type,
                                 int64_t row_stride, int64_t columns, int64_t k) {
    const int64_t whole = columns / 16, rest = columns % 16, size = type == ZN_F32 ? 4 : 2;
    for (int64_t step = 0; step < k; step++) {
        const int64_t row = step * row_stride;
        // Rows lie too far apart for the hardware to fetch ahead.
        for (int64_t p = 0; p < whole; p++) __builtin_prefetch((const char *)b + (row + 12 * row_stride + p * 16) * size);
        for (int64_t p = 0; p < whole; p++) {
            v_store(panels + p * panel_stride + step * 16, load_typed(b, type, row + p * 16));
        }
        if (rest > 0) v_store(panels + whole * panel_stride + step * 16, load_typed_n(b, type, row + whole * 16, rest));
    }
}

static void copy_panels(float *panels, int64_t panel_stride, const void *b, zn_float_type type, int64_t row_stride,
                        int64_t columns, int64_t k) {
    if (type == ZN_F32) {
        copy_panels_typed(panels, panel_stride, b, ZN_F32, row_stride, columns, k);
    } else if (type == ZN_F16) {
        copy_panels_typed(panels, panel_stride, b, ZN_F16, row_stride, columns, k);
    } else {
        copy_panels_typed(panels, panel_stride, b, ZN_BF16, row_stride, columns, k);
    }
}

typedef uint16_t v16h __attribute__((vector_size(32)));
#define INTERLEAVED_LOW 0, 16, 1, 17, 2, 18, 3, 19, 8, 24, 9, 25, 10, 26, 11, 27
#define INTERLEAVED_HIGH 4, 20, 5, 21, 6, 22, 7, 23, 12, 28, 13, 29, 14, 30, 15, 31

// Eight columns. One half of a vector is of row r, the other of row r + 8; each half's 8 x 8 elements are transposed by three
// interleavings, each of which turns the six bits of (row, column) by one.
ZN_INLINE void transpose_eight(uint16_t *to, int64_t to_stride, const uint16_t *from, int64_t from_stride) {
    v16h row[8], turned[8];
    for (int r = 0; r < 8; r++) {
        memcpy(&row[r], from + r * from_stride, 16);
        memcpy((char *)&row[r] + 16, from + (r + 8) * from_stride, 16);
    }
#pragma clang loop unroll(full)
    for (int turn = 0; turn < 3; turn++) {
        for (int r = 0; r < 4; r++) {
            turned[2 * r] = __builtin_shufflevector(row[r], row[r + 4], INTERLEAVED_LOW);
            turned[2 * r + 1] = __builtin_shufflevector(row[r], row[r + 4], INTERLEAVED_HIGH);
        }
        for (int r = 0; r < 8; r++) row[r] = turned[r];
    }
    for (int c = 0; c < 8; c++) memcpy(to + c * to_stride, &row[c], 32);
}

static void transpose16(uint16_t *to, int64_t to_stride, const uint16_t *from, int64_t from_stride, int64_t rows,
                        int64_t columns) {
    int64_t c = 0;
    for (; rows == 16 && c + 8 <= columns; c += 8) transpose_eight(to + c * to_stride, to_stride, from + c, from_stride);
    for (; c < columns; c++) {
        for (int64_t r = 0; r < 16; r++) to[c * to_stride + r] = r < rows ? from[r * from_stride + c] : 0;
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

// Rows and panels whose sums are in registers; `first` is the first panel.
ZN_INLINE void gemv_some_panels(const int rows, const int count, float *y, int64_t y_row_stride, const float *x,
                                int64_t x_row_stride, const void *b, const zn_float_type type, int64_t first,
                                int64_t panel_stride, int64_t k, bool add) {
    v16 sum[4][8];
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++) {
#pragma clang loop unroll(full)
        for (int p = 0; p < count; p++) sum[i][p] = add ? v_load(y + i * y_row_stride + (first + p) * 16) : v_set(0);
    }
    for (int64_t step = 0; step < k; step++) {
#pragma clang loop unroll(full)
        for (int p = 0; p < count; p++) {
            const v16 right = load_typed(b, type, (first + p) * panel_stride + step * 16);
#pragma clang loop unroll(full)
            for (int i = 0; i < rows; i++) sum[i][p] = v_fma(v_set(x[i * x_row_stride + step]), right, sum[i][p]);
        }
    }
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++) {
#pragma clang loop unroll(full)
        for (int p = 0; p < count; p++) v_store(y + i * y_row_stride + (first + p) * 16, sum[i][p]);
    }
}

// Up to four rows, with as many panels at a time as there are registers for.
ZN_INLINE void gemv_panels_typed(const int rows, float *y, int64_t y_row_stride, const float *x, int64_t x_row_stride,
                                 const void *b, const zn_float_type type, int64_t panel_stride, int64_t panels,
                                 int64_t k, bool add) {
    const int most = rows == 1 ? GEMV_PANELS : rows == 2 ? (GEMV_PANELS + 1) / 2 : (GEMV_PANELS + 3) / 4;
    int64_t p = 0;
    for (; p + most <= panels; p += most) {
        gemv_some_panels(rows, most, y, y_row_stride, x, x_row_stride, b, type, p, panel_stride, k, add);
    }
    for (; rows == 1 && p + 4 <= panels; p += 4) {
        gemv_some_panels(rows, 4, y, y_row_stride, x, x_row_stride, b, type, p, panel_stride, k, add);
    }
    for (; p < panels; p++) {
        gemv_some_panels(rows, 1, y, y_row_stride, x, x_row_stride, b, type, p, panel_stride, k, add);
    }
}

#define ZN_GEMV_PANELS(NAME, TYPE)                                                                                     \
    static __attribute__((noinline)) void gemv_panels_##NAME(                                                          \
        int64_t rows, float *y, int64_t y_row_stride, const float *x, int64_t x_row_stride, const void *b,             \
        int64_t panel_stride, int64_t panels, int64_t k, bool add) {                                                   \
        switch (rows) {                                                                                                \
        case 1: gemv_panels_typed(1, y, y_row_stride, x, x_row_stride, b, TYPE, panel_stride, panels, k, add); return; \
        case 2: gemv_panels_typed(2, y, y_row_stride, x, x_row_stride, b, TYPE, panel_stride, panels, k, add); return; \
        case 3: gemv_panels_typed(3, y, y_row_stride, x, x_row_stride, b, TYPE, panel_stride, panels, k, add); return; \
        case 4: gemv_panels_typed(4, y, y_row_stride, x, x_row_stride, b, TYPE, panel_stride, panels, k, add); return; \
        }                                                                                                              \
    }
ZN_GEMV_PANELS(f32, ZN_F32)
ZN_GEMV_PANELS(f16, ZN_F16)
ZN_GEMV_PANELS(bf16, ZN_BF16)
ZN_GEMV_PANELS(i8, ZN_I8)

static void gemv_panels(int64_t rows, float *y, int64_t y_row_stride, const float *x, int64_t x_row_stride,
                        const void *b, zn_float_type type, int64_t panel_stride, int64_t panels, int64_t k, bool add) {
    for (int64_t i = 0; i < rows; i += 4) {
        const int64_t some = rows - i < 4 ? rows - i : 4;
        (type == ZN_F32 ? gemv_panels_f32 : type == ZN_F16 ? gemv_panels_f16 : type == ZN_BF16 ? gemv_panels_bf16 : gemv_panels_i8)(
            some, y + i * y_row_stride, y_row_stride, x + i * x_row_stride, x_row_stride, b, panel_stride, panels, k, add);
    }
}
