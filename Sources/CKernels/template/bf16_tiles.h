// The register tiles of gemm_bf16() for processors that multiply pairs of bf16.

// A whole tile is computed, `rows` of it are written.
ZN_INLINE void bf16_tile(const int panels, int64_t rows, int64_t words, const uint32_t *a, const uint32_t *b,
                         int64_t b_panel_stride, float *c, int64_t c_row_stride, int64_t last_columns, bool add) {
    v16 sum[TILE_ROWS][TILE_PANELS];
#pragma clang loop unroll(full)
    for (int i = 0; i < TILE_ROWS; i++) {
#pragma clang loop unroll(full)
        for (int p = 0; p < panels; p++) {
            sum[i][p] = v_set(0);
            if (!add || i >= rows) continue;
            const float *row = c + i * c_row_stride + p * 16;
            sum[i][p] = p == panels - 1 && last_columns < 16 ? load_n(row, last_columns, 0) : v_load(row);
        }
    }
    for (int64_t w = 0; w < words; w++) {
        v16i right[TILE_PANELS];
#pragma clang loop unroll(full)
        for (int p = 0; p < panels; p++) right[p] = vi_load(b + p * b_panel_stride + w * 16);
#pragma clang loop unroll(full)
        for (int i = 0; i < TILE_ROWS; i++) {
            const v16i left = vi_word((const int8_t *)(a + w * TILE_ROWS + i));
#pragma clang loop unroll(full)
            for (int p = 0; p < panels; p++) sum[i][p] = v_dot_bf16(sum[i][p], left, right[p]);
        }
    }
#pragma clang loop unroll(full)
    for (int i = 0; i < TILE_ROWS; i++) {
        if (i >= rows) break;
#pragma clang loop unroll(full)
        for (int p = 0; p < panels; p++) {
            float *row = c + i * c_row_stride + p * 16;
            if (p == panels - 1 && last_columns < 16) {
                store_n(row, sum[i][p], last_columns);
            } else {
                v_store(row, sum[i][p]);
            }
        }
    }
}

static __attribute__((noinline)) void bf16_tile_single(int64_t rows, int64_t words, const uint32_t *a, const uint32_t *b,
                                                       int64_t b_panel_stride, float *c, int64_t c_row_stride,
                                                       int64_t last_columns, bool add) {
    bf16_tile(1, rows, words, a, b, b_panel_stride, c, c_row_stride, last_columns, add);
}

static __attribute__((noinline)) void bf16_tile_full(int64_t rows, int64_t words, const uint32_t *a, const uint32_t *b,
                                                     int64_t b_panel_stride, float *c, int64_t c_row_stride,
                                                     int64_t last_columns, bool add) {
    // The next tile's sums.
#pragma clang loop unroll(full)
    for (int i = 0; i < TILE_ROWS; i++) {
#pragma clang loop unroll(full)
        for (int p = 0; p < TILE_PANELS; p++) __builtin_prefetch(c + (i + TILE_ROWS) * c_row_stride + p * 16, 1, 3);
    }
    bf16_tile(TILE_PANELS, rows, words, a, b, b_panel_stride, c, c_row_stride, last_columns, add);
}

static void gemm_bf16_tiles(int64_t m, int64_t n_count, int64_t words, const uint32_t *packed_a, const uint32_t *b,
                            int64_t b_panel_stride, float *c, int64_t c_row_stride, bool add) {
    const int64_t panels = (n_count + 15) / 16;
    for (int64_t p = 0; p < panels; p += TILE_PANELS) {
        const int64_t here = panels - p < TILE_PANELS ? panels - p : TILE_PANELS;
        const int64_t columns = n_count - (p + here - 1) * 16, last = columns < 16 ? columns : 16;
        for (int64_t i = 0; i < m; i += TILE_ROWS) {
            const int64_t rows = m - i < TILE_ROWS ? m - i : TILE_ROWS;
            const uint32_t *left = packed_a + i * words, *right = b + p * b_panel_stride;
            float *out = c + i * c_row_stride + p * 16;
            if (here == TILE_PANELS) {
                bf16_tile_full(rows, words, left, right, b_panel_stride, out, c_row_stride, last, add);
                continue;
            }
            for (int64_t q = 0; q < here; q++) {
                bf16_tile_single(rows, words, left, right + q * b_panel_stride, b_panel_stride, out + q * 16,
                                 c_row_stride, q == here - 1 ? last : 16, add);
            }
        }
    }
}

// The register tile without its loads: what products of pairs can reach at most.
static double burn_pairs(int64_t rounds, float *result) {
    v16 sums[TILE_ROWS][TILE_PANELS];
    v16i right[TILE_PANELS], left[2];
    // Values the compiler cannot know, or it would do part of the work beforehand.
    const volatile uint32_t seed = 0x3F803F80;
#pragma clang loop unroll(full)
    for (int i = 0; i < 2; i++) left[i] = _mm512_set1_epi32((int)(seed + (uint32_t)i));
#pragma clang loop unroll(full)
    for (int p = 0; p < TILE_PANELS; p++) right[p] = _mm512_set1_epi32((int)(seed + 2 + (uint32_t)p));
#pragma clang loop unroll(full)
    for (int i = 0; i < TILE_ROWS; i++) {
#pragma clang loop unroll(full)
        for (int p = 0; p < TILE_PANELS; p++) sums[i][p] = v_set(0);
    }
    for (int64_t round = 0; round < rounds; round++) {
#pragma clang loop unroll(full)
        for (int i = 0; i < TILE_ROWS; i++) {
#pragma clang loop unroll(full)
            for (int p = 0; p < TILE_PANELS; p++) sums[i][p] = v_dot_bf16(sums[i][p], left[i % 2], right[p]);
        }
    }
    v16 total = v_set(0);
    for (int i = 0; i < TILE_ROWS; i++) {
        for (int p = 0; p < TILE_PANELS; p++) total = _mm512_add_ps(total, sums[i][p]);
    }
    v_store(result, total);
    return (double)rounds * TILE_ROWS * TILE_PANELS * 16 * 4;
}
