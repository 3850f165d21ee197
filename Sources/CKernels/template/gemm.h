// Products. TILE_ROWS x TILE_PANELS accumulators of 16 lanes stay in registers; each is one chain of fused multiply-adds
// over k, so neither the tile's shape nor the vector's width changes a bit of the result.

// `count` steps, from `step` on.
#define STEPS(count, multiply_add)                                                                                     \
    _Pragma("clang loop unroll(full)") for (int s = 0; s < (count); s++) {                                             \
        v16 right[2 * TILE_PANELS];                                                                                    \
        _Pragma("clang loop unroll(full)") for (int p = 0; p < panels; p++) {                                          \
            right[p] = v_load(b + p * b_panel_stride + (step + s) * 16);                                               \
        }                                                                                                              \
        _Pragma("clang loop unroll(full)") for (int i = 0; i < rows; i++) {                                            \
            const v16 left = v_set(a[i * a_row_stride + (step + s) * a_k_stride]);                                     \
            _Pragma("clang loop unroll(full)") for (int p = 0; p < panels; p++) {                                      \
                sum[i][p] = multiply_add(left, right[p], sum[i][p]);                                                   \
            }                                                                                                          \
        }                                                                                                              \
    }

// One tile of `rows` x `panels`. A: row i at a + i * a_row_stride, step a_k_stride. All counts are constants once inlined.
ZN_INLINE void tile(const int rows, const int panels, const int unrolled, int64_t k, const float *a,
                    int64_t a_row_stride, int64_t a_k_stride, const float *b, int64_t b_panel_stride, float *c,
                    int64_t c_row_stride, int64_t c_panel_stride, int64_t last_columns, zn_gemm_mode mode,
                    const float *ahead) {
    v16 sum[TILE_ROWS][2 * TILE_PANELS];
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++) {
#pragma clang loop unroll(full)
        for (int p = 0; p < panels; p++) {
            const float *row = c + i * c_row_stride + p * c_panel_stride;
            if (mode == ZN_OVERWRITE || mode == ZN_ADD_BLOCK) {
                sum[i][p] = v_set(0);
            } else {
                sum[i][p] = p == panels - 1 && last_columns < 16 ? load_n(row, last_columns, 0) : v_load(row);
            }
        }
    }
    int64_t step = 0;
    if (mode == ZN_SUBTRACT) {
        for (; step + unrolled <= k; step += unrolled) STEPS(unrolled, v_fnma);
        for (; step < k; step++) STEPS(1, v_fnma);
    } else {
        for (; step + unrolled <= k; step += unrolled) {
#pragma clang loop unroll(full)
            for (int line = 0; ahead != NULL && line < unrolled * TILE_ROWS; line += 16) {
                __builtin_prefetch(ahead + step * TILE_ROWS + line, 0, 2);
            }
            STEPS(unrolled, v_fma);
        }
        for (; step < k; step++) STEPS(1, v_fma);
    }
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++) {
#pragma clang loop unroll(full)
        for (int p = 0; p < panels; p++) {
            float *row = c + i * c_row_stride + p * c_panel_stride;
            if (mode == ZN_ADD_BLOCK) {
                const v16 before = p == panels - 1 && last_columns < 16 ? load_n(row, last_columns, 0) : v_load(row);
                sum[i][p] = v_add(before, sum[i][p]);
            }
            if (p == panels - 1 && last_columns < 16) {
                store_n(row, sum[i][p], last_columns);
            } else {
                v_store(row, sum[i][p]);
            }
        }
    }
}

#define ZN_TILE_CASE(ROWS)                                                                                             \
    case ROWS:                                                                                                         \
        tile(ROWS, panels, 1, k, a, a_row_stride, a_k_stride, b, b_panel_stride, c, c_row_stride, c_panel_stride,      \
             last_columns, mode, NULL);                                                                                \
        return;

ZN_INLINE void tile_of(int64_t rows, const int panels, int64_t k, const float *a, int64_t a_row_stride,
                       int64_t a_k_stride, const float *b, int64_t b_panel_stride, float *c, int64_t c_row_stride,
                       int64_t c_panel_stride, int64_t last_columns, zn_gemm_mode mode) {
    switch (rows) {
        ZN_TILE_CASE(1)
        ZN_TILE_CASE(2)
        ZN_TILE_CASE(3)
        ZN_TILE_CASE(4)
#if TILE_ROWS > 4
        ZN_TILE_CASE(5)
        ZN_TILE_CASE(6)
#endif
#if TILE_ROWS > 6
        ZN_TILE_CASE(7)
        ZN_TILE_CASE(8)
        ZN_TILE_CASE(9)
        ZN_TILE_CASE(10)
        ZN_TILE_CASE(11)
        ZN_TILE_CASE(12)
#endif
    }
}

static __attribute__((noinline)) void tile_single(int64_t rows, int64_t k, const float *a, int64_t a_row_stride,
                                                  int64_t a_k_stride, const float *b, int64_t b_panel_stride, float *c,
                                                  int64_t c_row_stride, int64_t c_panel_stride, int64_t last_columns,
                                                  zn_gemm_mode mode) {
    tile_of(rows, 1, k, a, a_row_stride, a_k_stride, b, b_panel_stride, c, c_row_stride, c_panel_stride, last_columns,
            mode);
}

static __attribute__((noinline)) void tile_full(int64_t rows, int64_t k, const float *a, int64_t a_row_stride,
                                                int64_t a_k_stride, const float *b, int64_t b_panel_stride, float *c,
                                                int64_t c_row_stride, int64_t c_panel_stride, int64_t last_columns,
                                                zn_gemm_mode mode) {
    tile_of(rows, TILE_PANELS, k, a, a_row_stride, a_k_stride, b, b_panel_stride, c, c_row_stride, c_panel_stride,
            last_columns, mode);
}

// Counting, comparing and fetching ahead were 9 of a step's 43 instructions. A quiet core does not feel it; when something,
// it seems another virtual machine, shares the core, fewer instructions a cycle are left, too few for two products
// (Emerald Rapids: 69 to 81 % of the peak). Eight steps of six rows, or of four, fill whole lines.
#define UNROLLED_STEPS 8

// The packed case that carries all the weight: a full tile, strides known at compile time.
static __attribute__((noinline)) void tile_packed(int64_t k, const float *a, const float *b, int64_t b_panel_stride,
                                                  float *c, int64_t c_row_stride, int64_t c_panel_stride,
                                                  int64_t last_columns, zn_gemm_mode mode, const float *ahead) {
    // The next tile's sums: they start its chains, and rows of C lie too far apart for the hardware to guess.
#pragma clang loop unroll(full)
    for (int i = 0; i < TILE_ROWS; i++) {
#pragma clang loop unroll(full)
        for (int p = 0; p < TILE_PANELS; p++) {
            __builtin_prefetch(c + (i + TILE_ROWS) * c_row_stride + p * c_panel_stride, 1, 3);
        }
    }
    if (ahead == NULL) {
        tile(TILE_ROWS, TILE_PANELS, UNROLLED_STEPS, k, a, 1, TILE_ROWS, b, b_panel_stride, c, c_row_stride,
             c_panel_stride, last_columns, mode, NULL);
    } else {
        tile(TILE_ROWS, TILE_PANELS, UNROLLED_STEPS, k, a, 1, TILE_ROWS, b, b_panel_stride, c, c_row_stride,
             c_panel_stride, last_columns, mode, ahead);
    }
}

static void gemm(int64_t m, int64_t n_count, int64_t k, const float *a, int64_t a_row_stride, int64_t a_k_stride,
                 const float *b, int64_t b_panel_stride, float *c, int64_t c_row_stride, int64_t c_panel_stride,
                 zn_gemm_mode mode) {
    const int64_t panels = (n_count + 15) / 16;
    for (int64_t p = 0; p < panels; p += TILE_PANELS) {
        const int64_t here = panels - p < TILE_PANELS ? panels - p : TILE_PANELS;
        const int64_t columns = n_count - (p + here - 1) * 16;
        const int64_t last = columns < 16 ? columns : 16;
        for (int64_t i = 0; i < m; i += TILE_ROWS) {
            const int64_t rows = m - i < TILE_ROWS ? m - i : TILE_ROWS;
            const float *left = a + i * a_row_stride;
            const float *right = b + p * b_panel_stride;
            float *out = c + i * c_row_stride + p * c_panel_stride;
            if (here == TILE_PANELS) {
                tile_full(rows, k, left, a_row_stride, a_k_stride, right, b_panel_stride, out, c_row_stride,
                          c_panel_stride, last, mode);
                continue;
            }
            for (int64_t q = 0; q < here; q++) {
                tile_single(rows, k, left, a_row_stride, a_k_stride, right + q * b_panel_stride, b_panel_stride,
                            out + q * c_panel_stride, c_row_stride, c_panel_stride, q == here - 1 ? last : 16, mode);
            }
        }
    }
}

// A line that other cores have read must be taken from them before it can be written: asked for early.
ZN_INLINE void prefetch_to_write(const float *p) { __builtin_prefetch(p, 1, 3); }

// A tile from rows that lie in memory one after the other.
ZN_INLINE void pack_tile_of_rows(float *tile, const float *a, int64_t a_row_stride, int64_t rows, int64_t k) {
    int64_t step = 0;
#ifdef PACK_SIXTEEN_STEPS
    for (; rows == TILE_ROWS && step + 16 <= k; step += 16) {
        // The next tile's rows: a few hundred floats each, too short for the hardware to fetch ahead.
        for (int r = 0; r < TILE_ROWS; r++) __builtin_prefetch(a + (TILE_ROWS + r) * a_row_stride + step);
        for (int line = 0; line < TILE_ROWS; line++) prefetch_to_write(tile + (step + 32) * TILE_ROWS + line * 16);
        PACK_SIXTEEN_STEPS(tile + step * TILE_ROWS, a + step, a_row_stride);
    }
#endif
    for (; step < k; step++) {
        for (int64_t r = 0; r < TILE_ROWS; r++) tile[step * TILE_ROWS + r] = r < rows ? a[r * a_row_stride + step] : 0;
    }
}

static void pack_rows(float *packed, const float *a, int64_t a_row_stride, int64_t a_k_stride, int64_t m, int64_t k) {
    int64_t i = 0;
    if (a_row_stride == 1) {
        // The rows of a step lie side by side: a few tiles at a time use whole cache lines. No more of them: for a depth that
        // is a power of two, the lines written lie in one set of the first-level cache.
        while (i + TILE_ROWS <= m) {
            const int64_t tiles = (m - i) / TILE_ROWS < 4 ? (m - i) / TILE_ROWS : 4;
            for (int64_t step = 0; step < k; step++) {
                const float *ahead = a + i + (step + 12) * a_k_stride;
                for (int64_t line = 0; line < tiles * TILE_ROWS; line += 16) __builtin_prefetch(ahead + line);
                for (int64_t t = 0; t < tiles; t++) {
                    float *out = packed + (i + t * TILE_ROWS) * k + step * TILE_ROWS;
                    prefetch_to_write(out + 16 * TILE_ROWS);
                    memcpy(out, a + i + t * TILE_ROWS + step * a_k_stride, TILE_ROWS * sizeof(float));
                }
            }
            i += tiles * TILE_ROWS;
        }
    }
    for (; i < m; i += TILE_ROWS) {
        const int64_t rows = m - i < TILE_ROWS ? m - i : TILE_ROWS;
        const float *source = a + i * a_row_stride;
        float *tile_start = packed + i * k;
        if (a_k_stride == 1) {
            pack_tile_of_rows(tile_start, source, a_row_stride, rows, k);
            continue;
        }
        for (int64_t step = 0; step < k; step++) {
            float *out = tile_start + step * TILE_ROWS;
            for (int64_t r = 0; r < rows; r++) out[r] = source[r * a_row_stride + step * a_k_stride];
            for (int64_t r = rows; r < TILE_ROWS; r++) out[r] = 0;
        }
    }
}

#define ROW_BLOCK (TILE_ROWS * ROW_TILES)
#ifndef ROW_TILES
#define ROW_TILES 20
#endif
#ifndef BLOCK_DEPTH
#define BLOCK_DEPTH 384
#endif

// Floats of A that stay in the second-level cache while a B passes by that was not built for the product but lies in memory:
// 256 KB, half of the smallest there is.
#define STREAMED_FLOATS (64 << 10)
// Tiles that together fetch a panel ahead: each as many floats as it has of A.
#define FETCHING_TILES ((16 + TILE_ROWS - 1) / TILE_ROWS)

#define ZN_FEW_ROWS_CASE(ROWS)                                                                                         \
    case ROWS:                                                                                                         \
        tile(ROWS, 2 * TILE_PANELS, 1, k, a, 1, TILE_ROWS, b, b_panel_stride, c, c_row_stride, c_panel_stride,         \
             last_columns, mode, NULL);                                                                                \
        return;

// Few rows are too few sums to keep the multipliers busy: two tiles' panels at once.
static __attribute__((noinline)) void tile_of_few_rows(int64_t rows, int64_t k, const float *a, const float *b,
                                                       int64_t b_panel_stride, float *c, int64_t c_row_stride,
                                                       int64_t c_panel_stride, int64_t last_columns,
                                                       zn_gemm_mode mode) {
    switch (rows) {
        ZN_FEW_ROWS_CASE(1)
        ZN_FEW_ROWS_CASE(2)
        ZN_FEW_ROWS_CASE(3)
    }
}

static void gemm_packed(int64_t m, int64_t n_count, int64_t k, const float *packed_a, const float *b,
                        int64_t b_panel_stride, float *c, int64_t c_row_stride, int64_t c_panel_stride,
                        zn_gemm_mode mode) {
    const int64_t panels = (n_count + 15) / 16;
    // Where B lies in memory and all rows (but for a tile) fit the second-level cache, they are one block and B is read
    // once. Else a block of rows stays there while all panels pass by it, and so do the panels.
    const bool streamed = b_panel_stride > 16 * k && (m - TILE_ROWS) * k <= STREAMED_FLOATS;
    const int64_t row_block = streamed ? m : ROW_BLOCK;
    for (int64_t block = 0; block < m; block += row_block)
    for (int64_t p = 0; p < panels; p += TILE_PANELS) {
        const int64_t here = panels - p < TILE_PANELS ? panels - p : TILE_PANELS;
        const int64_t columns = n_count - (p + here - 1) * 16;
        const int64_t last = columns < 16 ? columns : 16;
        const int64_t end = m < block + row_block ? m : block + row_block;
        for (int64_t i = block; i < end; i += TILE_ROWS) {
            const int64_t rows = m - i < TILE_ROWS ? m - i : TILE_ROWS;
            const float *left = packed_a + i * k;
            const float *right = b + p * b_panel_stride;
            float *out = c + i * c_row_stride + p * c_panel_stride;
            if (here < TILE_PANELS) {
                for (int64_t q = 0; q < here; q++) {
                    tile_single(rows, k, left, 1, TILE_ROWS, right + q * b_panel_stride, b_panel_stride,
                                out + q * c_panel_stride, c_row_stride, c_panel_stride, q == here - 1 ? last : 16, mode);
                }
            } else if (rows == TILE_ROWS) {
                const float *ahead = NULL;
                if (streamed) {
                    // The first tiles fetch the panels that follow, behind the last of them the first one's next steps.
                    const int64_t t = (i - block) / TILE_ROWS, q = t / FETCHING_TILES;
                    const float *next =
                        p + TILE_PANELS < panels ? right + TILE_PANELS * b_panel_stride : b + 16 * k;
                    if (q < TILE_PANELS) ahead = next + q * b_panel_stride + t % FETCHING_TILES * k * TILE_ROWS;
                } else if (p + TILE_PANELS >= panels) {
                    // The last panels of a block of rows fetch the next block.
                    ahead = left + row_block * k;
                }
                tile_packed(k, left, right, b_panel_stride, out, c_row_stride, c_panel_stride, last, mode, ahead);
            } else if (TILE_PANELS == 1 && rows <= TILE_ROWS / 2 && (p % 2 == 1 || p + 1 < panels)) {
                if (p % 2 == 1) continue;
                const int64_t beyond = n_count - (p + 1) * 16;
                tile_of_few_rows(rows, k, left, right, b_panel_stride, out, c_row_stride, c_panel_stride,
                                 beyond < 16 ? beyond : 16, mode);
            } else {
                tile_full(rows, k, left, 1, TILE_ROWS, right, b_panel_stride, out, c_row_stride, c_panel_stride, last,
                          mode);
            }
        }
    }
}
