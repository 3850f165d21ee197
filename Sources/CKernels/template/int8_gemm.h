// int8.h: many rows. Codes are unpacked to bytes once for all of them.

// 64 bytes of fields -> one vector of bytes for each four inputs.
ZN_INLINE void unpack_bytes(uint8_t *bytes, const uint8_t *codes, const int bits, int64_t first_k, int64_t count) {
    const int inputs = BLOCK_INPUTS(bits);
    codes += first_k / inputs * 64;
    for (int64_t at = 0; at < count; at += inputs) {
        const v16i block = vi_load(codes);
        codes += 64;
#pragma clang loop unroll(full)
        for (int f = 0; f < inputs / 4; f++) vi_store(bytes + (at / 4 + f) * 64, vi_codes(block, f, bits));
    }
}

static const float no_sums[16] __attribute__((aligned(64))) = {0};

// A run of neighbouring spans as a tile passes through it.
typedef struct {
    int64_t count;
    int64_t blocks[ZN_INT8_RUN];  // of each span
    int64_t parts;                // of ZN_INT8_PART inputs in a block
    v16 scales[ZN_INT8_RUN][INT8_PANELS];
    v16 zeros[ZN_INT8_RUN][INT8_PANELS];
    bool symmetric;    // no zero points but the middle
    bool first, last;  // of a product: there are no sums to add to; they are done
} int8_pass;

// Where a tile's sums are: between spans in `sums`, panels one after the other, at the end in rows of y.
typedef struct {
    float *sums, *y;
    int64_t sums_panel_stride, y_row_stride;
} int8_out;

ZN_INLINE int8_out int8_out_at(const int8_out *all, int64_t row, int64_t panel) {
    return (int8_out){all->sums + panel * all->sums_panel_stride + row * 16, all->y + row * all->y_row_stride + panel * 16,
                      all->sums_panel_stride, all->y_row_stride};
}

// One tile of `rows` x `panels` over a run of spans, added to its sums, or written if the run is the first.
//   a      words of four inputs, INT8_ROWS a step       bytes   per panel, 64 a step
//   folded words of a step that are operands in memory, the last ones
ZN_INLINE void int8_tile(const int rows, const int panels, const int bits, const int folded, const int8_pass *pass,
                         int first_panel, const int8_t *a, const uint8_t *bytes, int64_t bytes_stride, const float *x_scales,
                         const float *x_sums, const int8_out *out) {
    for (int64_t span = 0; span < pass->count; span++) {
        // The zero points' part first: where they are all alike it is one number for a row.
        v16 total[INT8_ROWS][INT8_PANELS];
#pragma clang loop unroll(full)
        for (int i = 0; i < rows; i++) {
            const v16 offset = v_set(x_sums[INT8_ROWS + i]);
#pragma clang loop unroll(full)
            for (int p = 0; p < panels; p++) {
                total[i][p] = pass->symmetric
                                  ? offset
                                  : v_fnma(pass->zeros[span][first_panel + p], v_set(x_sums[i]), offset);
            }
        }
        for (int64_t block = 0; block < pass->blocks[span]; block++) {
            v16i sum[INT8_ROWS][INT8_PANELS];
#pragma clang loop unroll(full)
            for (int i = 0; i < rows; i++) {
#pragma clang loop unroll(full)
                for (int p = 0; p < panels; p++) sum[i][p] = vi_set(SUM_START_BITS);
            }
            for (int64_t part = 0; part < pass->parts; part++) {
                v16i part_sum[INT8_ROWS][INT8_PANELS];
#pragma clang loop unroll(full)
                for (int i = 0; i < rows; i++) {
#pragma clang loop unroll(full)
                    for (int p = 0; p < panels; p++) part_sum[i][p] = part_start(sum[i][p], bits);
                }
#pragma clang loop unroll(full)
                for (int step = 0; step < ZN_INT8_PART / 4; step++) {
                    v16i right[INT8_PANELS];
#pragma clang loop unroll(full)
                    for (int p = 0; p < panels; p++) right[p] = vi_load(bytes + p * bytes_stride + step * 64);
#pragma clang loop unroll(full)
                    for (int i = 0; i < rows; i++) {
                        const int8_t *word = a + (step * INT8_ROWS + i) * 4;
#ifdef INT8_FOLDED
                        if (i >= INT8_ROWS - folded) {
#pragma clang loop unroll(full)
                            for (int p = 0; p < panels; p++) part_sum[i][p] = vi_dot_word(part_sum[i][p], right[p], word);
                            continue;
                        }
#endif
                        const v16i left = vi_word(word);
#pragma clang loop unroll(full)
                        for (int p = 0; p < panels; p++) part_sum[i][p] = part_dot(part_sum[i][p], right[p], left, bits);
                    }
                }
#pragma clang loop unroll(full)
                for (int i = 0; i < rows; i++) {
#pragma clang loop unroll(full)
                    for (int p = 0; p < panels; p++) sum[i][p] = part_end(sum[i][p], part_sum[i][p], bits);
                }
                a += ZN_INT8_PART * INT8_ROWS;
                bytes += ZN_INT8_PART / 4 * 64;
            }
#pragma clang loop unroll(full)
            for (int i = 0; i < rows; i++) {
                const v16 x_scale = v_set(x_scales[i]);
#pragma clang loop unroll(full)
                for (int p = 0; p < panels; p++) total[i][p] = v_fma(x_scale, vi_as_float(sum[i][p]), total[i][p]);
            }
            x_scales += INT8_ROWS;
        }
        const bool adds = span > 0 || !pass->first, ends = pass->last && span + 1 == pass->count;
        const int64_t row_stride = ends ? out->y_row_stride : 16, panel_stride = ends ? 16 : out->sums_panel_stride;
        float *const to = ends ? out->y : out->sums;
#pragma clang loop unroll(full)
        for (int i = 0; i < rows; i++) {
#pragma clang loop unroll(full)
            for (int p = 0; p < panels; p++) {
                const v16 before = v_load(adds ? out->sums + i * 16 + p * out->sums_panel_stride : no_sums);
                const v16 after = v_fma(pass->scales[span][first_panel + p], total[i][p], before);
                v_store(to + i * row_stride + p * panel_stride, after);
            }
        }
        x_sums += 2 * INT8_ROWS;
    }
}

#define ZN_INT8_CASE(ROWS)                                                                                             \
    case ROWS:                                                                                                         \
        int8_tile(ROWS, panels, bits, folded, pass, first_panel, a, bytes, bytes_stride, x_scales, x_sums, out);        \
        return;

ZN_INLINE void int8_tile_of(int64_t rows, const int panels, const int bits, const int folded, const int8_pass *pass,
                            int first_panel, const int8_t *a, const uint8_t *bytes, int64_t bytes_stride, const float *x_scales,
                            const float *x_sums, const int8_out *out) {
    switch (rows) {
        ZN_INT8_CASE(1)
        ZN_INT8_CASE(2)
#if INT8_ROWS > 3
        ZN_INT8_CASE(3)
#endif
#if INT8_ROWS > 4
        ZN_INT8_CASE(4)
        ZN_INT8_CASE(5)
#endif
        default:
            int8_tile(INT8_ROWS, panels, bits, folded, pass, first_panel, a, bytes, bytes_stride, x_scales, x_sums, out);
    }
}

#define ZN_INT8_TILE_FULL(NAME, BITS, FOLDED)                                                                          \
    static __attribute__((noinline)) void int8_tile_##NAME(                                                            \
        int64_t rows, const int8_pass *pass, const int8_t *a, const uint8_t *bytes, int64_t bytes_stride,                \
        const float *x_scales, const float *x_sums, const int8_out *out) {                                             \
        int8_tile_of(rows, INT8_PANELS, BITS, FOLDED, pass, 0, a, bytes, bytes_stride, x_scales, x_sums, out);          \
    }
#define ZN_INT8_TILE_SINGLE(NAME, BITS, FOLDED)                                                                        \
    static __attribute__((noinline)) void int8_tile_##NAME(                                                            \
        int64_t rows, const int8_pass *pass, int panel, const int8_t *a, const uint8_t *bytes, const float *x_scales,    \
        const float *x_sums, const int8_out *out) {                                                                    \
        int8_tile_of(rows, 1, BITS, FOLDED, pass, panel, a, bytes, 0, x_scales, x_sums, out);                           \
    }
#ifdef INT8_FOLDED
ZN_INT8_TILE_FULL(full_4_intel, 4, INT8_FOLDED_INTEL)
#else
#define INT8_FOLDED 0
#define int8_tile_full_4_intel int8_tile_full_4
#endif
ZN_INT8_TILE_FULL(full_2, 2, INT8_FOLDED)
ZN_INT8_TILE_FULL(full_4, 4, INT8_FOLDED)
ZN_INT8_TILE_FULL(full_8, 8, INT8_FOLDED)
ZN_INT8_TILE_SINGLE(single_2, 2, INT8_FOLDED)
ZN_INT8_TILE_SINGLE(single_4, 4, INT8_FOLDED)
ZN_INT8_TILE_SINGLE(single_8, 8, INT8_FOLDED)

// Codes, scales and zero points of panel q of a tile for a run.
static void read_run(int8_pass *pass, const int8_run *run, int64_t q, uint8_t *bytes, const uint8_t *codes, int bits,
                     const uint16_t *scales, const uint8_t *zeros, int64_t group_size) {
    if (bits == 4) {
        unpack_bytes(bytes, codes, 4, run->first, run->inputs);
    } else if (bits == 8) {
        unpack_bytes(bytes, codes, 8, run->first, run->inputs);
    } else {
        unpack_bytes(bytes, codes, 2, run->first, run->inputs);
    }
    int64_t at = run->first;
    for (int64_t s = 0; s < run->spans; s++) {
        pass->scales[s][q] = span_scale(scales + at / group_size * 16, bits);
        pass->zeros[s][q] = span_zero(zeros, bits, at / group_size);
        at += pass->blocks[s] * pass->parts * ZN_INT8_PART;
    }
}

static void gemm_int8(int64_t m, const int8_t *packed, const float *x_scales, const float *x_sums, int64_t block,
                      const uint8_t *codes, int bits, const uint16_t *scales, const uint8_t *zeros, int64_t group_size,
                      int64_t groups, int64_t panel_code_bytes, int64_t panels, int64_t k, float *y,
                      int64_t y_row_stride, uint8_t *scratch) {
    const int64_t spans = zn_int8_spans(k, group_size), padded = (m + INT8_ROWS - 1) / INT8_ROWS * INT8_ROWS;
    const int64_t bytes_stride = ZN_INT8_RUN * ZN_INT8_SPAN * 16;
    if (m <= ZN_INT8_FEW_MOST) {
        gemm_int8_few(m, packed, x_scales, x_sums, block, codes, bits, scales, zeros, group_size, groups, panel_code_bytes,
                      panels, k, y, y_row_stride);
        return;
    }
    const int8_out all = {(float *)(scratch + INT8_PANELS * bytes_stride), y, m * 16, y_row_stride};
    for (int8_run run = {0}; run.first_span < spans; run.first_span += run.spans, run.first += run.inputs) {
        // The activations of a run stay in the second-level cache for all panels, its codes of a tile's panels in the
        // first for all rows, and a tile's sums while it passes through the run.
        run = run_from(run.first, run.first_span, spans, m, k, group_size);
        int8_pass pass = {.count = run.spans, .parts = block / ZN_INT8_PART, .symmetric = zeros == NULL,
                          .first = run.first_span == 0, .last = run.first_span + run.spans == spans};
        for (int64_t s = 0, at = run.first; s < run.spans; s++) {
            const int64_t inputs = span_length(at, k, group_size);
            pass.blocks[s] = inputs / block;
            at += inputs;
        }
        const int64_t code_bytes = run.inputs * bits * 2;
        for (int64_t p = 0; p < panels; p += INT8_PANELS) {
            const int64_t here = panels - p < INT8_PANELS ? panels - p : INT8_PANELS;
            for (int64_t q = 0; q < here; q++) {
                read_run(&pass, &run, q, scratch + q * bytes_stride, codes + (p + q) * panel_code_bytes, bits,
                         scales + (p + q) * groups * 16, zeros == NULL ? NULL : zeros + (p + q) * groups * 16, group_size);
            }
            // Lines of the next panels' codes with each tile, or of the next run's: they come from memory.
            const bool more = p + INT8_PANELS < panels;
            const uint8_t *next = codes + (more ? (p + INT8_PANELS) * panel_code_bytes : 0) + run.first * bits * 2 +
                                  (more ? 0 : code_bytes);
            // All tiles' activations of a run lie in a row: the hardware fetches the next by itself.
            const int8_t *a = packed + run.first * padded;
            const float *xs = x_scales + run.first / block * padded, *xu = x_sums + 2 * run.first_span * padded;
            for (int64_t i = 0; i < m; i += INT8_ROWS) {
                const int64_t rows = m - i < INT8_ROWS ? m - i : INT8_ROWS, line = i / INT8_ROWS * 64;
                if (line < code_bytes) {
                    for (int64_t q = 0; q < here; q++) __builtin_prefetch(next + q * panel_code_bytes + line);
                }
                // Handed over by address: a copy on the stack, written in parts and read at once, waits for its stores.
                const int8_out out = int8_out_at(&all, i, p);
                for (int64_t r = 0; pass.last && r < rows; r++) {
                    for (int64_t q = 0; q < here; q++) prefetch_to_write(out.y + r * y_row_stride + q * 16);
                }
                if (here == INT8_PANELS) {
                    (bits == 4   ? zn_is_intel ? int8_tile_full_4_intel : int8_tile_full_4
                     : bits == 8 ? int8_tile_full_8
                                 : int8_tile_full_2)(rows, &pass, a, scratch, bytes_stride, xs, xu, &out);
                } else {
                    for (int q = 0; q < here; q++) {
                        const int8_out own = int8_out_at(&all, i, p + q);
                        (bits == 4 ? int8_tile_single_4 : bits == 8 ? int8_tile_single_8 : int8_tile_single_2)(
                            rows, &pass, q, a, scratch + q * bytes_stride, xs, xu, &own);
                    }
                }
                a += run.inputs * INT8_ROWS;
                xs += run.inputs / block * INT8_ROWS;
                xu += 2 * run.spans * INT8_ROWS;
            }
        }
    }
}

// The compiler must take this memory for changed.
#define OPAQUE(memory) __asm__ volatile("" : "+m"(memory))
// Where multiplying and adding are two instructions, products of what does not change would be made once, before the loop.
#ifdef INT8_DOT_INSTRUCTION
#define PRODUCTS_LEAVE_LOOPS false
#else
#define PRODUCTS_LEAVE_LOOPS true
#endif

// The register tile of gemm_int8 without its loads and scales: what byte products can reach at most. Where products would leave
// the loop their words change, as it seems, and are loaded as a tile loads them.
static double burn_bytes(int64_t rounds, int32_t *result) {
    v16i sums[INT8_ROWS][INT8_PANELS], right[INT8_PANELS];
    const int8_t seed = 3;
    uint8_t bytes[64];
    int8_t words[ZN_INT8_PART / 4][INT8_ROWS][4];
#pragma clang loop unroll(full)
    for (int p = 0; p < INT8_PANELS; p++) {
        memset(bytes, seed + p, sizeof bytes);
        OPAQUE(bytes);
        right[p] = vi_load(bytes);
    }
    memset(words, seed, sizeof words);
    OPAQUE(words);
#pragma clang loop unroll(full)
    for (int i = 0; i < INT8_ROWS; i++) {
#pragma clang loop unroll(full)
        for (int p = 0; p < INT8_PANELS; p++) sums[i][p] = vi_zero();
    }
    for (int64_t round = 0; round < rounds; round++) {
        if (PRODUCTS_LEAVE_LOOPS) OPAQUE(words);
        v16i part_sum[INT8_ROWS][INT8_PANELS];
#pragma clang loop unroll(full)
        for (int i = 0; i < INT8_ROWS; i++) {
#pragma clang loop unroll(full)
            for (int p = 0; p < INT8_PANELS; p++) part_sum[i][p] = part_start(sums[i][p], 4);
        }
#pragma clang loop unroll(full)
        for (int step = 0; step < ZN_INT8_PART / 4; step++) {
#pragma clang loop unroll(full)
            for (int i = 0; i < INT8_ROWS; i++) {
                const v16i left = vi_word(PRODUCTS_LEAVE_LOOPS ? words[step][i] : words[0][i % 2]);
#pragma clang loop unroll(full)
                for (int p = 0; p < INT8_PANELS; p++) part_sum[i][p] = part_dot(part_sum[i][p], right[p], left, 4);
            }
        }
#pragma clang loop unroll(full)
        for (int i = 0; i < INT8_ROWS; i++) {
#pragma clang loop unroll(full)
            for (int p = 0; p < INT8_PANELS; p++) sums[i][p] = part_end(sums[i][p], part_sum[i][p], 4);
        }
    }
    v16i total = vi_zero();
    for (int i = 0; i < INT8_ROWS; i++) {
        for (int p = 0; p < INT8_PANELS; p++) total = vi_add(total, sums[i][p]);
    }
    vi_store(result, total);
    return (double)rounds * ZN_INT8_PART / 4 * INT8_ROWS * INT8_PANELS * 64 * 2;
}
