/* Float32 sums of blocks for one instruction set; see kernel.c. No include guard: it is included several times on purpose.
 *
 * Parameters: V(name); LANES of a vector; ROWS of C at once, and PANEL (2 or 3) vectors of columns; vector (float32), bits (the same as
 * integers); LOAD, LOAD_SOME, WIDEN, WIDEN_SOME, STORE, SET1, MULTIPLY_ADD, TRANSPOSE.
 *
 * A lies in rows of KERNEL_BLOCK. B lies in panels of PANEL vectors of columns, the last as narrow as it can be, in each row
 * after row. Columns beyond n are 0, rows beyond m hold anything. */

/* Up to LANES elements, the rest 0. */
INLINE bits V(load)(const char *at, size_t n, bool half)
{
    if (n >= LANES)
        return half ? WIDEN(at) : LOAD(at);
    return half ? WIDEN_SOME(at, n) : LOAD_SOME(at, n);
}

/* The block from (line, i) of x on with lines and columns exchanged: vector j holds element i + j of each line. */
INLINE void V(turn)(bits v[LANES], const char *at, size_t ld, size_t lines, size_t n, bool half)
{
    const size_t size = half ? sizeof(uint16_t) : sizeof(float);
    for (size_t r = 0; r < LANES; r++)
        v[r] = r < lines ? V(load)(at + r * ld * size, n, half) : V(load)(at, 0, half);
    TRANSPOSE(v);
}

INLINE size_t V(some)(size_t n, size_t at)
{
    return n - at < LANES ? n - at : LANES;
}

INLINE void V(pack_rows)(float *to, const struct matrix *a, size_t m, size_t k, bool half)
{
    const char *at = a->at;
    const size_t size = half ? sizeof(uint16_t) : sizeof(float);
    for (size_t i = 0; i < m; i += LANES)
        for (size_t j = 0; j < k; j += LANES) {
            const size_t rows = V(some)(m, i), depth = V(some)(k, j);
            bits v[LANES];
            if (a->turned)
                V(turn)(v, at + (j * a->ld + i) * size, a->ld, depth, rows, half);
            else
                for (size_t r = 0; r < rows; r++)
                    v[r] = V(load)(at + ((i + r) * a->ld + j) * size, depth, half);
            for (size_t r = 0; r < rows; r++)
                STORE(to + (i + r) * KERNEL_BLOCK + j, v[r]);
        }
}

static struct matrix V(pack_a)(void *to, const struct matrix *a, size_t m, size_t k, bool half)
{
    half ? V(pack_rows)(to, a, m, k, true) : V(pack_rows)(to, a, m, k, false);
    return as_is(to, KERNEL_BLOCK);
}

/* Vectors of columns of the panel at column j. */
INLINE size_t V(panel)(size_t n, size_t j)
{
    const size_t vectors = (n - j / (PANEL * LANES) * (PANEL * LANES) + LANES - 1) / LANES;
    return vectors < PANEL ? vectors : PANEL;
}

INLINE void V(pack_columns)(float *to, const struct matrix *b, size_t k, size_t n, bool half)
{
    const char *at = b->at;
    const size_t size = half ? sizeof(uint16_t) : sizeof(float);
    for (size_t j = 0; j < n; j += LANES) {
        const size_t columns = V(some)(n, j), width = V(panel)(n, j) * LANES;
        float *out = to + j / (PANEL * LANES) * (PANEL * LANES) * k + j % (PANEL * LANES);
        if (!b->turned) {
            for (size_t p = 0; p < k; p++)
                STORE(out + p * width, V(load)(at + (p * b->ld + j) * size, columns, half));
            continue;
        }
        for (size_t p = 0; p < k; p += LANES) {
            bits v[LANES];
            V(turn)(v, at + (j * b->ld + p) * size, b->ld, columns, V(some)(k, p), half);
            for (size_t q = 0; q < LANES && p + q < k; q++)
                STORE(out + (p + q) * width, v[q]);
        }
    }
}

static struct matrix V(pack_b)(void *to, const struct matrix *b, size_t k, size_t n, bool half)
{
    half ? V(pack_columns)(to, b, k, n, true) : V(pack_columns)(to, b, k, n, false);
    return as_is(to, 0);
}

/* ROWS x (width vectors) of C; width is a constant where this is used. */
INLINE void V(kernel)(float *c, const float *a, const float *b, size_t k, bool add, const int width)
{
    vector sum[ROWS][PANEL];
    _Pragma("GCC unroll 8") for (int r = 0; r < ROWS; r++) _Pragma("GCC unroll 3") for (int v = 0; v < width; v++)
        sum[r][v] = add ? *(const vector *)(c + r * KERNEL_BLOCK + v * LANES) : SET1(0);
    for (size_t p = 0; p < k; p++, b += width * LANES) {
        vector y[PANEL];
        _Pragma("GCC unroll 3") for (int v = 0; v < width; v++) y[v] = *(const vector *)(b + v * LANES);
        _Pragma("GCC unroll 8") for (int r = 0; r < ROWS; r++)
        {
            const vector x = SET1(a[r * KERNEL_BLOCK + p]);
            _Pragma("GCC unroll 3") for (int v = 0; v < width; v++) sum[r][v] = MULTIPLY_ADD(x, y[v], sum[r][v]);
        }
    }
    _Pragma("GCC unroll 8") for (int r = 0; r < ROWS; r++) _Pragma("GCC unroll 3") for (int v = 0; v < width; v++) *
        (vector *)(c + r * KERNEL_BLOCK + v * LANES) = sum[r][v];
}

static void V(multiply)(float *c, const struct matrix *a, const struct matrix *b, size_t m, size_t n, size_t k,
                        bool add)
{
    const float *x = a->at, *y = b->at;
    for (size_t j = 0; j < n; j += PANEL * LANES, y += PANEL * LANES * k) {
        const size_t width = V(panel)(n, j);
        for (size_t i = 0; i < m; i += ROWS) {
            float *to = c + i * KERNEL_BLOCK + j;
            const float *rows = x + i * KERNEL_BLOCK;
            if (PANEL == 3 && width == 3)
                V(kernel)(to, rows, y, k, add, 3);
            else if (width == 2)
                V(kernel)(to, rows, y, k, add, 2);
            else
                V(kernel)(to, rows, y, k, add, 1);
        }
    }
}

static const struct kernel V(table) = { V_NAME, V(pack_a), V(pack_b), V(multiply) };
