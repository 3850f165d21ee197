// Products of sides rounded to bf16. A word holds two successive k, the even one in its lower half.

// 32 floats of a row as bf16, subnormals as zero; missing ones are zero.
ZN_INLINE void round_to_bf16(uint16_t halves[32], const float *x, int64_t count) {
    if (count >= 32) {
        v_store_bf16(halves, v_load(x));
        v_store_bf16(halves + 16, v_load(x + 16));
    } else {
        float rest[32] = {0};
        memcpy(rest, x, (size_t)count * sizeof(float));
        v_store_bf16(halves, v_load(rest));
        v_store_bf16(halves + 16, v_load(rest + 16));
    }
    for (int i = 0; i < 32; i++) halves[i] = halves[i] & 0x7F80 ? halves[i] : halves[i] & 0x8000;
}

static void pack_rows_bf16(uint32_t *packed, const float *a, int64_t a_row_stride, int64_t m, int64_t k) {
    const int64_t words = (k + 1) / 2;
    for (int64_t i = 0; i < m; i += TILE_ROWS) {
        uint32_t *tile = packed + i * words;
        for (int64_t step = 0; step < k; step += 32) {
            const int64_t count = k - step < 32 ? k - step : 32;
            uint32_t block[TILE_ROWS][16];
            for (int r = 0; r < TILE_ROWS; r++) {
                if (i + r < m) {
                    uint16_t halves[32];
                    __builtin_prefetch(a + (i + TILE_ROWS + r) * a_row_stride + step);
                    round_to_bf16(halves, a + (i + r) * a_row_stride + step, count);
                    memcpy(block[r], halves, sizeof halves);
                } else {
                    memset(block[r], 0, sizeof block[r]);
                }
            }
            uint32_t *out = tile + step / 2 * TILE_ROWS;
            for (int64_t w = 0; w < (count + 1) / 2; w++) {
                for (int r = 0; r < TILE_ROWS; r++) out[w * TILE_ROWS + r] = block[r][w];
            }
        }
    }
}

static void narrow_panel_bf16(uint32_t *words, const float *panel, int64_t k) {
    for (int64_t step = 0; step < k; step += 2) {
        uint16_t halves[32];
        round_to_bf16(halves, panel + step * 16, (k - step) * 16);
        for (int i = 0; i < 16; i++) words[step / 2 * 16 + i] = halves[i] | (uint32_t)halves[16 + i] << 16;
    }
}

#include "bf16_tiles.h"

static void gemm_bf16(int64_t m, int64_t n_count, int64_t words, const uint32_t *packed_a, const uint32_t *b,
                      int64_t b_panel_stride, float *c, int64_t c_row_stride, bool add) {
#ifdef NATIVE_GEMM_BF16
    if (NATIVE_GEMM_BF16(m, n_count, words, packed_a, b, b_panel_stride, c, c_row_stride, add)) return;
#endif
    const uint64_t state = zn_flush_subnormals();
    gemm_bf16_tiles(m, n_count, words, packed_a, b, b_panel_stride, c, c_row_stride, add);
    zn_restore_subnormals(state);
}
