// Attention in `fast` arithmetic: queries, keys, probabilities and values rounded to bf16, products summed in fp32 as VDPBF16PS
// sums them, in one pass over the keys with a running maximum (Milakov and Gimelshein, arXiv:1805.02867; Dao et al.,
// arXiv:2205.14135).
//
// The left side of a product is rows of bf16. Of the right side a word holds two successive k for each of 16 lanes. Where the
// processor multiplies pairs, both are stored as bf16 (NATIVE_PAIRS); otherwise as the same numbers in fp32, the odd product
// of a pair being added before the even one.

#ifdef NATIVE_PAIRS
typedef uint16_t zn_left;
typedef uint32_t zn_right;
// Elements from one word to the next.
#define RIGHT_WORD 16
ZN_INLINE void store_left(zn_left *to, v16 low, v16 high) { v_store_pair_of_bf16(to, low, high); }
ZN_INLINE void store_right(zn_right *to, v16 even, v16 odd) { vi_store(to, v_words_of_bf16(even, odd)); }
#else
typedef float zn_left;
typedef float zn_right;
#define RIGHT_WORD 32
ZN_INLINE void store_left(zn_left *to, v16 low, v16 high) {
    v_store(to, v_round_bf16(low));
    v_store(to + 16, v_round_bf16(high));
}
ZN_INLINE void store_right(zn_right *to, v16 even, v16 odd) {
    v_store(to, v_round_bf16(even));
    v_store(to + 16, v_round_bf16(odd));
}
#endif

// Where rows of probabilities begin: all lie in the first-level cache, and none at the same place of it as another.
#define LEFT_STRIDE (ZN_ATTENTION_KEYS + 32)
#define SCORE_STRIDE (ZN_ATTENTION_KEYS + 16)

// 2^x for x <= 0: x = n + f, |f| <= 1/2, 2^f by a polynomial of degree 5 (relative error below 2e-7). Below -125 the result is 0.
ZN_INLINE v16 v_exp2(v16 x) {
    // NaN stays: the second operand is returned for it.
    const v16 t = v_max(v_set(-125.0f), x);
    // The sum's last place is 1, so that it is rounded to a whole number, which its last bits hold.
    const v16 z = v_add(t, v_set(ZN_SUM_START));
    const v16 f = v_sub(t, v_sub(z, v_set(ZN_SUM_START)));
    v16 p = v_set(1.3264726e-3f);
    p = v_fma(p, f, v_set(9.6715127e-3f));
    p = v_fma(p, f, v_set(5.5507337e-2f));
    p = v_fma(p, f, v_set(2.4022242e-1f));
    p = v_fma(p, f, v_set(6.9314698e-1f));
    p = v_fma(p, f, v_set(1.0f));
    const v16 power = vi_as_float(vi_add(v_as_int(p), vi_shift_left_23(v_as_int(z))));
    return v_zero_below(x, v_set(-125.0f), power);
}

// sum[i][p] += left row i * panel p, over `words` pairs of k.
ZN_INLINE void attention_tile(const int rows, const int panels, int64_t words, const zn_left *left, int64_t left_stride,
                              const zn_right *right, int64_t panel_stride, v16 sum[TILE_ROWS][8]) {
    for (int64_t w = 0; w < words; w++) {
#ifdef NATIVE_PAIRS
        v16i b[8];
#pragma clang loop unroll(full)
        for (int p = 0; p < panels; p++) b[p] = vi_load(right + p * panel_stride + w * RIGHT_WORD);
#pragma clang loop unroll(full)
        for (int i = 0; i < rows; i++) {
            const v16i a = vi_word((const int8_t *)(left + i * left_stride + 2 * w));
#pragma clang loop unroll(full)
            for (int p = 0; p < panels; p++) sum[i][p] = v_dot_bf16(sum[i][p], a, b[p]);
        }
#else
#pragma clang loop unroll(full)
        for (int odd = 1; odd >= 0; odd--) {
            v16 b[8];
#pragma clang loop unroll(full)
            for (int p = 0; p < panels; p++) b[p] = v_load(right + p * panel_stride + w * RIGHT_WORD + 16 * odd);
#pragma clang loop unroll(full)
            for (int i = 0; i < rows; i++) {
                const v16 a = v_set(left[i * left_stride + 2 * w + odd]);
#pragma clang loop unroll(full)
                for (int p = 0; p < panels; p++) sum[i][p] = v_fma(a, b[p], sum[i][p]);
            }
        }
#endif
    }
}

// c[i, p] = start[i] + the product, or += when `start` is NULL.
ZN_INLINE void attention_panels(const int rows, const int panels, int64_t words, const zn_left *left, int64_t left_stride,
                                const zn_right *right, int64_t panel_stride, float *c, int64_t c_stride, const float *start) {
    v16 sum[TILE_ROWS][8];
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++) {
#pragma clang loop unroll(full)
        for (int p = 0; p < panels; p++) sum[i][p] = start ? v_set(start[i]) : v_load(c + i * c_stride + p * 16);
    }
    attention_tile(rows, panels, words, left, left_stride, right, panel_stride, sum);
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++) {
#pragma clang loop unroll(full)
        for (int p = 0; p < panels; p++) v_store(c + i * c_stride + p * 16, sum[i][p]);
    }
}

ZN_INLINE void attention_rows(const int rows, int64_t panels, int64_t words, const zn_left *left, int64_t left_stride,
                              const zn_right *right, int64_t panel_stride, float *c, int64_t c_stride, const float *start) {
    const int most = rows == 1 ? GEMV_PANELS : TILE_PANELS;
    int64_t p = 0;
#define SOME_PANELS(count)                                                                                             \
    for (; p + (count) <= panels; p += (count)) {                                                                      \
        attention_panels(rows, (count), words, left, left_stride, right + p * panel_stride, panel_stride, c + p * 16,   \
                         c_stride, start);                                                                             \
    }
    SOME_PANELS(most)
    if (rows == 1 && GEMV_PANELS > 4) { SOME_PANELS(4) }
    if (most > 2) { SOME_PANELS(2) }
    if (most > 1) { SOME_PANELS(1) }
#undef SOME_PANELS
}

#define ATTENTION_ROWS(ROWS)                                                                                           \
    static __attribute__((noinline)) void attention_rows_##ROWS(                                                       \
        int64_t panels, int64_t words, const zn_left *left, int64_t left_stride, const zn_right *right,                \
        int64_t panel_stride, float *c, int64_t c_stride, const float *start) {                                        \
        attention_rows(ROWS, panels, words, left, left_stride, right, panel_stride, c, c_stride, start);               \
    }
ATTENTION_ROWS(1)
ATTENTION_ROWS(2)
ATTENTION_ROWS(3)
ATTENTION_ROWS(4)
#if TILE_ROWS > 4
ATTENTION_ROWS(5)
ATTENTION_ROWS(6)
#endif

static void attention_product(int64_t rows, int64_t panels, int64_t words, const zn_left *left, int64_t left_stride,
                              const zn_right *right, int64_t panel_stride, float *c, int64_t c_stride, const float *start) {
    switch (rows) {
    case 1: attention_rows_1(panels, words, left, left_stride, right, panel_stride, c, c_stride, start); return;
    case 2: attention_rows_2(panels, words, left, left_stride, right, panel_stride, c, c_stride, start); return;
    case 3: attention_rows_3(panels, words, left, left_stride, right, panel_stride, c, c_stride, start); return;
    case 4: attention_rows_4(panels, words, left, left_stride, right, panel_stride, c, c_stride, start); return;
#if TILE_ROWS > 4
    case 5: attention_rows_5(panels, words, left, left_stride, right, panel_stride, c, c_stride, start); return;
    case 6: attention_rows_6(panels, words, left, left_stride, right, panel_stride, c, c_stride, start); return;
#endif
    }
}

// ---- the right sides -------------------------------------------------------------------------------------------------

// A panel [count][16] of floats, halves or bytes; what fills the last word is zero. What lies `ahead` bytes further is asked for:
// generations read caches from memory, where the processor's own prefetching begins again at every page and every panel.
ZN_INLINE void load_right_typed(zn_right *right, const void *panel, const zn_float_type type, int64_t count, int64_t ahead) {
    const int64_t word_bytes = type == ZN_F32 ? 128 : type == ZN_I8 ? 32 : 64;
    int64_t w = 0;
    for (; 2 * w + 1 < count; w++) {
        __builtin_prefetch((const char *)panel + w * word_bytes + ahead);
        if (type == ZN_F32) __builtin_prefetch((const char *)panel + w * word_bytes + 64 + ahead);
        store_right(right + w * RIGHT_WORD, load_typed(panel, type, 32 * w), load_typed(panel, type, 32 * w + 16));
    }
    if (2 * w < count) store_right(right + w * RIGHT_WORD, load_typed(panel, type, 32 * w), v_set(0));
}

// 128 + code of `words` pairs of codes: of 16 bytes the lower halves are the even k.
static void load_right_codes(zn_right *right, const uint8_t *codes, int64_t words, int64_t ahead) {
    for (int64_t w = 0; w < words; w++) {
        if (w % 4 == 0) __builtin_prefetch(codes + 16 * w + ahead);
        const v16i bytes = vi_load_u8(codes + 16 * w);
#ifdef NATIVE_PAIRS
        vi_store(right + w * RIGHT_WORD, vi_words_of_codes(bytes));
#else
        v_store(right + w * RIGHT_WORD, v_add(v_from_int(vi_field(bytes, 0, 15)), v_set(128.0f)));
        v_store(right + w * RIGHT_WORD + 16, v_add(v_from_int(vi_field(bytes, 4, 15)), v_set(128.0f)));
#endif
    }
}

static void load_right(zn_right *right, const void *panel, zn_float_type type, int64_t count, int64_t ahead) {
    switch (type) {
    case ZN_F32: load_right_typed(right, panel, ZN_F32, count, ahead); return;
    case ZN_F16: load_right_typed(right, panel, ZN_F16, count, ahead); return;
    case ZN_BF16: load_right_typed(right, panel, ZN_BF16, count, ahead); return;
    case ZN_I8: load_right_typed(right, panel, ZN_I8, count, ahead); return;
    }
}

// ---- the pass ----------------------------------------------------------------------------------------------------------

// Working memory of a call.
typedef struct attention_memory {
    zn_right *keys, *values;  // of a block of keys
    zn_left *left;            // queries [rows][left_stride], or those of a tile times the scales of a block of codes
    zn_left *scaled;          // [TILE_ROWS][left_stride]
    zn_left *weights;         // probabilities of a tile [TILE_ROWS][LEFT_STRIDE]
    float *queries;           // [rows][left_stride], times the scale of scores
    float *scores;            // [TILE_ROWS][SCORE_STRIDE]
    float *sums;              // [rows][padded_dim]
    float *totals;            // [rows][16]: sums of probabilities
    float *offsets;           // [rows][16]: what all elements of a row's sums still lack
    float *highest;           // [rows]
    float *key_scales, *key_minima;      // [left_stride] of each block of codes
    float *value_scales, *value_minima;  // [ZN_ATTENTION_KEYS]
    int64_t left_stride;
} attention_memory;

static void widen_halves(float *to, const uint16_t *from, int64_t count) {
    for (int64_t i = 0; i < count; i += 16) {
        const int64_t rest = count - i < 16 ? count - i : 16;
        store_n(to + i, load_typed_n(from, ZN_F16, i, rest), rest);
    }
}

// Queries times the scales of a block of codes, and what their products with the codes then lack.
static void scale_queries(const zn_attention *job, const attention_memory *memory, int64_t codes, int64_t first_row,
                          int64_t rows, float start[TILE_ROWS]) {
    const float *scales = memory->key_scales + codes * memory->left_stride;
    const float *of_minima = memory->key_minima + codes * memory->left_stride;
    for (int64_t i = 0; i < rows; i++) {
        const float *query = memory->queries + (first_row + i) * memory->left_stride;
        v16 minima = v_set(0), rounded = v_set(0);
        for (int64_t at = 0; at < job->head_dim; at += 32) {
            const v16 low = v_mul(v_load(query + at), v_load(scales + at));
            const v16 high = v_mul(v_load(query + at + 16), v_load(scales + at + 16));
            store_left(memory->scaled + i * memory->left_stride + at, low, high);
            rounded = v_add(v_add(rounded, v_round_bf16(low)), v_round_bf16(high));
            minima = v_fma(v_load(query + at), v_load(of_minima + at), minima);
            minima = v_fma(v_load(query + at + 16), v_load(of_minima + at + 16), minima);
        }
        float lane[16];
        v_store(lane, v_fma(rounded, v_set(-128.0f), minima));
        start[i] = zn_lane_sum(lane);
    }
}

// Scores of one row -> its probabilities, the sums so far corrected for a new maximum. Columns from `visible` to `columns`, a
// multiple of 32, get the probability 0.
ZN_INLINE void weigh_row(const zn_attention *job, const attention_memory *memory, int64_t row, float *scores,
                         zn_left *weights, int64_t visible, int64_t columns, const float *scales, const float *minima) {
    for (int64_t k = visible; k < columns; k++) scores[k] = -INFINITY;
    v16 most = v_set(-INFINITY);
    for (int64_t k = 0; k < columns; k += 16) most = v_max(most, v_load(scores + k));
    const float here = v_highest(most);
    float *totals = memory->totals + row * 16, *offsets = memory->offsets + row * 16;
    v16 total = v_load(totals), offset = v_load(offsets);
    if (here > memory->highest[row]) {
        const v16 factor = v_exp2(v_set(memory->highest[row] - here));
        float *sums = memory->sums + row * job->padded_dim;
        for (int64_t e = 0; e < job->padded_dim; e += 16) v_store(sums + e, v_mul(v_load(sums + e), factor));
        total = v_mul(total, factor);
        offset = v_mul(offset, factor);
        memory->highest[row] = here;
    }
    const v16 shift = v_set(memory->highest[row]);
    for (int64_t k = 0; k < columns; k += 32) {
        v16 low = v_exp2(v_sub(v_load(scores + k), shift)), high = v_exp2(v_sub(v_load(scores + k + 16), shift));
        total = v_add(v_add(total, low), high);
        if (minima != NULL) {
            offset = v_fma(low, v_load(minima + k), offset);
            offset = v_fma(high, v_load(minima + k + 16), offset);
        }
        if (scales != NULL) {
            low = v_mul(low, v_load(scales + k));
            high = v_mul(high, v_load(scales + k + 16));
        }
        if (minima != NULL) {
            low = v_round_bf16(low), high = v_round_bf16(high);
            offset = v_fma(low, v_set(-128.0f), offset);
            offset = v_fma(high, v_set(-128.0f), offset);
        }
        store_left(weights + k, low, high);
    }
    v_store(totals, total);
    v_store(offsets, offset);
}

// The keys of a segment from `first` on.
typedef struct attention_block {
    const zn_kv_segment *segment;
    int64_t first, head_dim, panels;
    int64_t element_bytes;
    // Of a segment of codes.
    const uint8_t *codes;
    int64_t block_bytes, scales_offset;
} attention_block;

// Bytes, measured on Zen 5: generations from caches in half precision are 1.4 times as fast as without, from codes 1.9 times.
#ifndef KEYS_AHEAD
#define KEYS_AHEAD 4096
#define VALUES_AHEAD 4096
#endif
#define VALUE_STRIDE (ZN_ATTENTION_KEYS / 2 * RIGHT_WORD)

ZN_INLINE const uint16_t *halves_of_codes(const attention_block *block, int64_t key) {
    return (const uint16_t *)(block->codes + key / ZN_KV_BLOCK * block->block_bytes + block->scales_offset);
}

// Keys from ..< to of a block, `from` being a multiple of 16.
static void load_keys(zn_right *right, const attention_block *block, int64_t from, int64_t to) {
    const int64_t dim = block->head_dim, words = (dim + 1) / 2;
    for (int64_t key = from; key < to; key += 16, right += words * RIGHT_WORD) {
        if (block->codes) {
            const uint8_t *codes = block->codes + key / ZN_KV_BLOCK * block->block_bytes;
            // The values of the same block come next.
            load_right_codes(right, codes + key % ZN_KV_BLOCK / 16 * words * 16, words, zn_kv_values_offset(dim));
        } else {
            const uint8_t *keys = block->segment->keys;
            load_right(right, keys + (block->first + key) * dim * block->element_bytes, block->segment->type, dim,
                       KEYS_AHEAD);
        }
    }
}

// The values of the same positions, panels VALUE_STRIDE apart.
static void load_values(zn_right *right, const attention_block *block, int64_t from, int64_t to) {
    // With codes, the keys that are taken next.
    const int64_t ahead = ZN_ATTENTION_KEYS / ZN_KV_BLOCK * block->block_bytes - zn_kv_values_offset(block->head_dim);
    for (int64_t p = 0; p < block->panels; p++, right += VALUE_STRIDE) {
        if (!block->codes) {
            const uint8_t *values = block->segment->values;
            const int64_t at = p * block->segment->value_panel_stride + (block->first + from) * 16;
            load_right(right, values + at * block->element_bytes, block->segment->type, to - from,
                       VALUES_AHEAD);
            continue;
        }
        for (int64_t key = from; key < to; key += ZN_KV_BLOCK) {
            const uint8_t *codes = block->codes + key / ZN_KV_BLOCK * block->block_bytes + zn_kv_values_offset(block->head_dim);
            load_right_codes(right + (key - from) / 2 * RIGHT_WORD, codes + p * (ZN_KV_BLOCK / 2 * 16), ZN_KV_BLOCK / 2,
                             ahead);
        }
    }
}

// What a position's probabilities are multiplied with, and the minima of its values; NULL for 1 and 0. Whole vectors may be read.
// With codes, those of keys as well.
static void load_scales(const attention_memory *memory, const attention_block *block, int64_t count,
                              const float **scales, const float **minima) {
    *scales = *minima = NULL;
    if (block->codes) {
        for (int64_t key = 0; key < count; key += ZN_KV_BLOCK) {
            const uint16_t *halves = halves_of_codes(block, key) + 2 * block->head_dim;
            widen_halves(memory->value_scales + key, halves, ZN_KV_BLOCK);
            widen_halves(memory->value_minima + key, halves + ZN_KV_BLOCK, ZN_KV_BLOCK);
            const int64_t at = key / ZN_KV_BLOCK * memory->left_stride;
            widen_halves(memory->key_scales + at, halves - 2 * block->head_dim, block->head_dim);
            widen_halves(memory->key_minima + at, halves - block->head_dim, block->head_dim);
        }
        *minima = memory->value_minima;
    } else if (block->segment->value_scales) {
        memset(memory->value_scales, 0, ZN_ATTENTION_KEYS * sizeof(float));
        memcpy(memory->value_scales, block->segment->value_scales + block->first, (size_t)count * sizeof(float));
    } else {
        return;
    }
    *scales = memory->value_scales;
}

// Up to TILE_ROWS rows from `row` on and the first `seen` keys of a block -> scores.
static void score_tile(const zn_attention *job, const attention_memory *memory, const attention_block *block, int64_t row,
                       int64_t rows, int64_t seen, bool keys_are_loaded) {
    const int64_t words = (job->head_dim + 1) / 2, stride = memory->left_stride;
    for (int64_t key = 0; key < seen; key += ZN_KV_BLOCK) {
        const int64_t some = seen - key < ZN_KV_BLOCK ? seen - key : ZN_KV_BLOCK;
        const zn_left *left = memory->left + row * stride;
        float start[TILE_ROWS] = {0};
        if (block->codes) {
            scale_queries(job, memory, key / ZN_KV_BLOCK, row, rows, start);
            left = memory->scaled;
        }
        if (!keys_are_loaded) load_keys(memory->keys, block, key, key + some);
        attention_product(rows, (some + 15) / 16, words, left, stride,
                          memory->keys + (keys_are_loaded ? key / 16 * words * RIGHT_WORD : 0), words * RIGHT_WORD,
                          memory->scores + key, SCORE_STRIDE, start);
    }
}

// Keys first ..< first + count of a segment, at most ZN_ATTENTION_KEYS, for all rows.
static void attend_keys(const zn_attention *job, const attention_memory *memory, const zn_kv_segment *segment, int64_t first,
                        int64_t count) {
    const int64_t rows = job->rows, padded = job->padded_dim, panels = padded / 16, position = segment->first + first;
    attention_block block = {.segment = segment, .first = first, .head_dim = job->head_dim, .panels = panels};
    if (segment->is_codes) {
        block.block_bytes = zn_kv_block_bytes(job->head_dim, padded);
        block.scales_offset = zn_kv_scales_offset(job->head_dim, padded);
        block.codes = (const uint8_t *)segment->keys + first / ZN_KV_BLOCK * block.block_bytes;
    } else {
        block.element_bytes = segment->type == ZN_F32 ? 4 : segment->type == ZN_I8 ? 1 : 2;
    }
    const float *scales, *minima;
    load_scales(memory, &block, count, &scales, &minima);
    // One tile of rows reads so many keys at a time that their copies stay in the first-level cache; several share the copies
    // of all.
    const bool is_shared = rows > TILE_ROWS;
    const int64_t at_once = is_shared ? ZN_ATTENTION_KEYS : ZN_KV_BLOCK;
    if (is_shared) {
        load_keys(memory->keys, &block, 0, count);
        load_values(memory->values, &block, 0, count);
    }
    for (int64_t i = 0; i < rows; i += TILE_ROWS) {
        const int64_t here = rows - i < TILE_ROWS ? rows - i : TILE_ROWS;
        // What the last row of the tile sees.
        const int64_t last = job->first_visible + (i + here - 1) / job->group - position;
        const int64_t seen = last < count ? last : count;
        if (seen <= 0) continue;
        score_tile(job, memory, &block, i, here, seen, is_shared);
        const int64_t columns = (seen + 31) / 32 * 32;
        for (int64_t r = 0; r < here; r++) {
            const int64_t row = i + r, own = job->first_visible + row / job->group - position;
            float *scores = memory->scores + r * SCORE_STRIDE;
            zn_left *weights = memory->weights + r * LEFT_STRIDE;
            if (own <= 0) {
                memset(weights, 0, (size_t)columns * sizeof *weights);
                continue;
            }
            const int64_t visible = own < count ? own : count;
            if (segment->key_scales) {
                const float *of_keys = segment->key_scales + first;
                int64_t k = 0;
                for (; k + 16 <= visible; k += 16) v_store(scores + k, v_mul(v_load(scores + k), v_load(of_keys + k)));
                for (; k < visible; k++) scores[k] *= of_keys[k];
            }
            // Each call without what it does not need.
            if (minima) {
                weigh_row(job, memory, row, scores, weights, visible, columns, scales, minima);
            } else if (scales) {
                weigh_row(job, memory, row, scores, weights, visible, columns, scales, NULL);
            } else {
                weigh_row(job, memory, row, scores, weights, visible, columns, NULL, NULL);
            }
        }
        for (int64_t key = 0; key < seen; key += at_once) {
            const int64_t some = seen - key < at_once ? seen - key : at_once;
            if (!is_shared) load_values(memory->values, &block, key, key + some);
            attention_product(here, panels, (some + 1) / 2, memory->weights + key, LEFT_STRIDE, memory->values, VALUE_STRIDE,
                              memory->sums + i * padded, padded, NULL);
        }
    }
}

// Not inlined: nothing of it may move out of where subnormals are flushed.
static __attribute__((noinline)) void attend_rows(const zn_attention *job, float *scratch) {
    const int64_t rows = job->rows, dim = job->head_dim, padded = job->padded_dim;
    const int64_t stride = (dim + 31) / 32 * 32;
    attention_memory memory = {.left_stride = stride};
    float *next = scratch;
#define TAKE(field, count) memory.field = (void *)next, next += ((count) + 15) / 16 * 16
    TAKE(keys, ZN_ATTENTION_KEYS * (dim + 1));
    TAKE(values, ZN_ATTENTION_KEYS * padded);
    TAKE(left, rows * stride);
    TAKE(scaled, TILE_ROWS * stride);
    TAKE(weights, TILE_ROWS * LEFT_STRIDE);
    TAKE(queries, rows * stride);
    TAKE(scores, TILE_ROWS * SCORE_STRIDE);
    TAKE(sums, rows * padded);
    TAKE(totals, rows * 16);
    TAKE(offsets, rows * 16);
    TAKE(highest, rows);
    TAKE(key_scales, ZN_ATTENTION_KEYS / ZN_KV_BLOCK * stride);
    TAKE(key_minima, ZN_ATTENTION_KEYS / ZN_KV_BLOCK * stride);
    TAKE(value_scales, ZN_ATTENTION_KEYS);
    TAKE(value_minima, ZN_ATTENTION_KEYS);
#undef TAKE
    memset(memory.sums, 0, (size_t)(rows * padded) * sizeof(float));
    memset(memory.totals, 0, (size_t)(rows * 16) * sizeof(float));
    memset(memory.offsets, 0, (size_t)(rows * 16) * sizeof(float));
    memset(memory.key_scales, 0, (size_t)(ZN_ATTENTION_KEYS / ZN_KV_BLOCK * stride) * sizeof(float));
    memset(memory.key_minima, 0, (size_t)(ZN_ATTENTION_KEYS / ZN_KV_BLOCK * stride) * sizeof(float));
    const v16 factor = v_set(job->scale);
    for (int64_t row = 0; row < rows; row++) {
        memory.highest[row] = -INFINITY;
        const float *query = job->queries + row / job->group * job->token_stride + row % job->group * job->head_stride;
        float *scaled = memory.queries + row * stride;
        for (int64_t at = 0; at < stride; at += 16) {
            const int64_t rest = dim - at;
            const v16 x = rest >= 16 ? v_load(query + at) : rest > 0 ? load_n(query + at, rest, 0) : v_set(0);
            v_store(scaled + at, v_mul(x, factor));
        }
        for (int64_t at = 0; at < stride; at += 32) {
            store_left(memory.left + row * stride + at, v_load(scaled + at), v_load(scaled + at + 16));
        }
    }
    const int64_t most = job->first_visible + (rows - 1) / job->group;
    for (int64_t s = 0; s < job->segment_count; s++) {
        const zn_kv_segment *segment = job->segments + s;
        const int64_t end = most - segment->first < segment->count ? most - segment->first : segment->count;
        for (int64_t first = 0; first < end; first += ZN_ATTENTION_KEYS) {
            attend_keys(job, &memory, segment, first, end - first < ZN_ATTENTION_KEYS ? end - first : ZN_ATTENTION_KEYS);
        }
    }
    for (int64_t row = 0; row < rows; row++) {
        float lane[16];
        v_store(lane, v_load(memory.totals + row * 16));
        const v16 by = v_set(1.0f / zn_lane_sum(lane));
        v_store(lane, v_load(memory.offsets + row * 16));
        const v16 offset = v_set(zn_lane_sum(lane));
        float *out = job->out + row / job->group * job->out_token_stride + row % job->group * job->out_head_stride;
        for (int64_t at = 0; at < dim; at += 16) {
            const v16 y = v_mul(v_add(v_load(memory.sums + row * padded + at), offset), by);
            if (dim - at >= 16) {
                v_store(out + at, y);
            } else {
                store_n(out + at, y, dim - at);
            }
        }
    }
}

static void attend(const zn_attention *job, float *scratch) {
#ifdef NATIVE_ATTEND
    if (NATIVE_ATTEND(job, scratch)) return;
#endif
    const uint64_t state = zn_flush_subnormals();
    attend_rows(job, scratch);
    zn_restore_subnormals(state);
}
