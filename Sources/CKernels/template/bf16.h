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

// Words that are widened at a time.
#define BF16_WORDS 128

// Words of `lanes` rows or columns as floats: of each word the odd k of all lanes, then the even one.
ZN_INLINE void widen_words(float *floats, const uint32_t *words, int64_t count, const int lanes) {
    if (lanes == 16) {
        for (int64_t w = 0; w < count; w++) {
            const v16i both = vi_load(words + w * 16);
            v_store(floats + w * 32, v_bf16_odd(both));
            v_store(floats + w * 32 + 16, v_bf16_even(both));
        }
        return;
    }
    uint32_t bits[2 * TILE_ROWS];
    for (int64_t w = 0; w < count; w++) {
        for (int lane = 0; lane < lanes; lane++) {
            bits[lane] = words[w * lanes + lane] & 0xFFFF0000;
            bits[lanes + lane] = words[w * lanes + lane] << 16;
        }
        memcpy(floats + w * 2 * lanes, bits, 2 * (size_t)lanes * sizeof(float));
    }
}

// The products of a pair, one after the other, are what VDPBF16PS adds (Intel SDM: the odd one first, each rounded once,
// subnormals zero). As floats they pass through the tiles of fp32, at its speed.
// Not inlined: nothing of it may move out of where subnormals are flushed.
static __attribute__((noinline)) void gemm_bf16_as_floats(int64_t m, int64_t n_count, int64_t words,
                                                          const uint32_t *packed_a, const uint32_t *b,
                                                          int64_t b_panel_stride, float *c, int64_t c_row_stride,
                                                          bool add) {
    float left[ROW_BLOCK * 2 * BF16_WORDS] __attribute__((aligned(64)));
    float right[TILE_PANELS * 16 * 2 * BF16_WORDS] __attribute__((aligned(64)));
    const int64_t panels = (n_count + 15) / 16;
    for (int64_t block = 0; block < m; block += ROW_BLOCK)
    for (int64_t word = 0; word < words; word += BF16_WORDS) {
        const int64_t rows = m - block < ROW_BLOCK ? m - block : ROW_BLOCK;
        const int64_t count = words - word < BF16_WORDS ? words - word : BF16_WORDS;
        for (int64_t i = 0; i < rows; i += TILE_ROWS) {
            widen_words(left + i * 2 * count, packed_a + (block + i) * words + word * TILE_ROWS, count, TILE_ROWS);
        }
        for (int64_t p = 0; p < panels; p += TILE_PANELS) {
            const int64_t here = panels - p < TILE_PANELS ? panels - p : TILE_PANELS;
            for (int64_t q = 0; q < here; q++) {
                widen_words(right + q * 32 * count, b + (p + q) * b_panel_stride + word * 16, count, 16);
            }
            const int64_t columns = n_count - p * 16 < here * 16 ? n_count - p * 16 : here * 16;
            gemm_packed(rows, columns, 2 * count, left, right, 32 * count, c + block * c_row_stride + p * 16,
                        c_row_stride, 16, add || word > 0 ? ZN_ADD : ZN_OVERWRITE);
        }
    }
}

static void gemm_bf16(int64_t m, int64_t n_count, int64_t words, const uint32_t *packed_a, const uint32_t *b,
                      int64_t b_panel_stride, float *c, int64_t c_row_stride, bool add) {
#ifdef NATIVE_GEMM_BF16
    if (NATIVE_GEMM_BF16(m, n_count, words, packed_a, b, b_panel_stride, c, c_row_stride, add)) return;
#endif
    const uint64_t state = zn_flush_subnormals();
    gemm_bf16_as_floats(m, n_count, words, packed_a, b, b_panel_stride, c, c_row_stride, add);
    zn_restore_subnormals(state);
}
