/* Winograd's transforms of tiles, and their products. Included once per instruction set, SET. */

typedef float NAME(vector) __attribute__((vector_size(BYTES), aligned(4), may_alias));
enum { NAME(lanes) = BYTES / sizeof(float), NAME(width) = 2 * BYTES / sizeof(float) };

/* Computes c[i][j] = sum over k of a[i * row + k * step] * b[k][j], for `rows` rows and the columns of a panel;
 * or adds to c. */
static inline __attribute__((always_inline)) TARGET void NAME(product)(
    const float *restrict a, int64_t row, int64_t step, const float *restrict b, float *restrict c,
    int64_t c_row, int64_t n, const int rows, const int add) {
    NAME(vector) sum[ROWS][2];
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < 2; j++)
            sum[i][j] = add ? *(NAME(vector) *)(c + i * c_row + j * NAME(lanes)) : (NAME(vector)){0};
    for (int64_t k = 0; k < n; k++, a += step, b += NAME(width)) {
        NAME(vector) left = *(const NAME(vector) *)b, right = *(const NAME(vector) *)(b + NAME(lanes));
        for (int i = 0; i < rows; i++) {
            NAME(vector) value = a[i * row] - (NAME(vector)){0};
            sum[i][0] = (NAME(vector))FUSED(value, left, sum[i][0]);
            sum[i][1] = (NAME(vector))FUSED(value, right, sum[i][1]);
        }
    }
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < 2; j++) *(NAME(vector) *)(c + i * c_row + j * NAME(lanes)) = sum[i][j];
}

/* B' d: six numbers for each of eight channels. */
static inline __attribute__((always_inline)) TARGET void NAME(of_input)(const eight d[IN], eight v[IN]) {
    eight even = d[4] - 4.0f * d[2], odd = d[3] - 4.0f * d[1];
    eight near = d[4] - d[2], far = 2.0f * (d[3] - d[1]);
    v[0] = 4.0f * d[0] - 5.0f * d[2] + d[4];
    v[1] = even + odd, v[2] = even - odd, v[3] = near + far, v[4] = near - far;
    v[5] = 4.0f * d[1] - 5.0f * d[3] + d[5];
}

/* A' m: four outputs of six products. */
static inline __attribute__((always_inline)) TARGET void NAME(to_output)(const eight m[IN], eight y[OUT]) {
    eight even = m[1] + m[2], odd = m[1] - m[2], even_far = m[3] + m[4], odd_far = m[3] - m[4];
    y[0] = m[0] + even + even_far;
    y[1] = odd + 2.0f * odd_far;
    y[2] = even + 4.0f * even_far;
    y[3] = odd + 8.0f * odd_far + m[5];
}

/* A g: its transpose. */
static inline __attribute__((always_inline)) TARGET void NAME(of_grad)(const eight g[OUT], eight v[IN]) {
    eight even = g[0] + g[2], odd = g[1] + g[3];
    eight even_far = g[0] + 4.0f * g[2], odd_far = 2.0f * g[1] + 8.0f * g[3];
    v[0] = g[0], v[1] = even + odd, v[2] = even - odd;
    v[3] = even_far + odd_far, v[4] = even_far - odd_far, v[5] = g[3];
}

/* Transforms the inputs of a tile, B' d B, into plane after plane. */
static TARGET void NAME(take_input)(const task *t, place at, float *to, int64_t plane) {
    const convolution_call *c = t->call;
    int64_t top = at.y - c->rows.padding, left = at.x - c->columns.padding;
    int64_t pixel = c->channels, line = c->columns.input * pixel;
    const float *from = (const float *)c->x + at.image * c->rows.input * line;
    for (int64_t channel = 0; channel < c->channels; channel += EIGHT) {
        eight half[IN][IN];
        for (int j = 0; j < IN; j++) {
            int64_t x = left + j;
            eight d[IN], v[IN];
            for (int i = 0; i < IN; i++) {
                int64_t y = top + i;
                int inside = x >= 0 && x < c->columns.input && y >= 0 && y < c->rows.input;
                d[i] = inside ? *(const eight *)(from + y * line + x * pixel + channel) : (eight){0};
            }
            NAME(of_input)(d, v);
            for (int i = 0; i < IN; i++) half[i][j] = v[i];
        }
        for (int i = 0; i < IN; i++) {
            eight v[IN];
            NAME(of_input)(half[i], v);
            for (int j = 0; j < IN; j++) *(eight *)(to + (i * IN + j) * plane + channel) = v[j];
        }
    }
}

/* Transforms the products of a tile into its outputs, A' m A, and adds the bias. */
static TARGET void NAME(give_output)(const task *t, place at, const float *from, int64_t plane) {
    const convolution_call *c = t->call;
    int64_t rows = least(OUT, c->rows.output - at.y), columns = least(OUT, c->columns.output - at.x);
    int64_t line = c->columns.output * c->outputs;
    float *to = (float *)c->y + (at.image * c->rows.output + at.y) * line + at.x * c->outputs;
    for (int64_t o = 0; o < c->outputs; o += EIGHT) {
        eight half[OUT][IN], bias = c->bias ? *(const eight *)(c->bias + o) : (eight){0};
        for (int j = 0; j < IN; j++) {
            eight m[IN], y[OUT];
            for (int i = 0; i < IN; i++) m[i] = *(const eight *)(from + (i * IN + j) * plane + o);
            NAME(to_output)(m, y);
            for (int i = 0; i < OUT; i++) half[i][j] = y[i];
        }
        for (int64_t i = 0; i < rows; i++) {
            eight y[OUT];
            NAME(to_output)(half[i], y);
            for (int64_t j = 0; j < columns; j++)
                *(eight *)(to + i * line + j * c->outputs + o) = y[j] + bias;
        }
    }
}

/* Transforms dL/dy of a tile, A g A', into plane after plane; panels lie apart by `group` rows. */
static TARGET void NAME(take_grad)(const task *t, place at, float *to) {
    const convolution_call *c = t->call;
    int64_t rows = least(OUT, c->rows.output - at.y), columns = least(OUT, c->columns.output - at.x);
    int64_t line = c->columns.output * c->outputs;
    const float *from = (const float *)c->grad + (at.image * c->rows.output + at.y) * line + at.x * c->outputs;
    for (int64_t o = 0; o < t->panels * t->width; o += EIGHT) {
        float *here = to + o / t->width * t->group * t->width + o % t->width;
        eight half[IN][OUT];
        for (int64_t j = 0; j < OUT; j++) {
            eight g[OUT], v[IN];
            for (int64_t i = 0; i < OUT; i++)
                g[i] = i < rows && j < columns && o < c->outputs
                           ? *(const eight *)(from + i * line + j * c->outputs + o)
                           : (eight){0};
            NAME(of_grad)(g, v);
            for (int i = 0; i < IN; i++) half[i][j] = v[i];
        }
        for (int i = 0; i < IN; i++) {
            eight v[IN];
            NAME(of_grad)(half[i], v);
            for (int j = 0; j < IN; j++) *(eight *)(here + (i * IN + j) * t->grad_plane) = v[j];
        }
    }
}

/* Computes a block of tiles. */
static TARGET void NAME(forward)(const void *data, int64_t piece, void *scratch) {
    const task *t = data;
    const convolution_call *c = t->call;
    int64_t first = piece * t->block, tiles = least(t->block, t->tiles - first);
    int64_t channels = c->channels, columns = t->panels * NAME(width);
    int64_t input_plane = t->block * channels + APART, plane = t->block * columns + APART;
    float *inputs = scratch, *products = inputs + PLANES * input_plane;
    for (int64_t i = 0; i < tiles; i++)
        NAME(take_input)(t, place_of(t, first + i), inputs + i * channels, input_plane);
    for (int64_t p = 0; p < PLANES; p++)
        for (int64_t panel = 0; panel < t->panels; panel++) {
            const float *weights = t->weights + p * t->weight_plane + panel * channels * NAME(width);
            for (int64_t i = 0; i < tiles; i += ROWS) {
                const float *a = inputs + p * input_plane + i * channels;
                float *to = products + p * plane + i * columns + panel * NAME(width);
                if (tiles - i > 4) NAME(product)(a, channels, 1, weights, to, columns, channels, ROWS, 0);
                else if (tiles - i > 2) NAME(product)(a, channels, 1, weights, to, columns, channels, 4, 0);
                else NAME(product)(a, channels, 1, weights, to, columns, channels, 2, 0);
            }
        }
    for (int64_t i = 0; i < tiles; i++)
        NAME(give_output)(t, place_of(t, first + i), products + i * columns, plane);
}

/* Backward: transforms inputs and gradients of a few tiles of a group. */
static TARGET void NAME(transform)(const void *data, int64_t piece, void *scratch) {
    (void)scratch;
    const task *t = data;
    int64_t end = least((piece + 1) * ROWS, t->group);
    for (int64_t i = piece * ROWS; i < end; i++) {
        place at = place_of(t, t->first + i);
        NAME(take_input)(t, at, t->inputs + i * t->call->channels, t->input_plane);
        NAME(take_grad)(t, at, t->grads + i * NAME(width));
    }
}

/* Backward: adds a group's products of one plane and some input channels. */
static TARGET void NAME(multiply)(const void *data, int64_t piece, void *scratch) {
    (void)scratch;
    const task *t = data;
    int64_t channels = t->call->channels, plane = piece % PLANES, first = piece / PLANES * STRETCH;
    int64_t end = least(first + STRETCH, channels);
    const float *inputs = t->inputs + plane * t->input_plane;
    for (int64_t panel = 0; panel < t->panels; panel++) {
        const float *grads = t->grads + plane * t->grad_plane + panel * t->group * NAME(width);
        float *sums = t->weights + plane * t->weight_plane + panel * channels * NAME(width);
        for (int64_t i = first; i < end; i += ROWS) {
            float *to = sums + i * NAME(width);
            if (end - i > 4)
                NAME(product)(inputs + i, 1, channels, grads, to, NAME(width), t->group, ROWS, 1);
            else if (end - i > 2)
                NAME(product)(inputs + i, 1, channels, grads, to, NAME(width), t->group, 4, 1);
            else
                NAME(product)(inputs + i, 1, channels, grads, to, NAME(width), t->group, 2, 1);
        }
    }
}

/* G g, of three numbers for each of eight outputs. */
static inline __attribute__((always_inline)) TARGET void NAME(spread)(const eight g[3], eight u[IN]) {
    eight ends = (g[0] + g[2]) * SIXTH, middle = g[1] * SIXTH;
    eight far = g[0] * (SIXTH / 4.0f) + g[2] * SIXTH, half = g[1] * (SIXTH / 2.0f);
    u[0] = g[0] * 0.25f, u[1] = -ends - middle, u[2] = middle - ends;
    u[3] = far + half, u[4] = far - half, u[5] = g[2];
}

/* G' u: its transpose. */
static inline __attribute__((always_inline)) TARGET void NAME(gather)(const eight u[IN], eight g[3]) {
    eight near = (u[1] + u[2]) * SIXTH, far = (u[3] + u[4]) * SIXTH;
    g[0] = u[0] * 0.25f - near + far * 0.25f;
    g[1] = (u[2] - u[1]) * SIXTH + (u[3] - u[4]) * (SIXTH / 2.0f);
    g[2] = far - near + u[5];
}

/* Transforms the weights of a panel: G g G'. */
static TARGET void NAME(pack)(const void *data, int64_t panel, void *scratch) {
    (void)scratch;
    const task *t = data;
    const convolution_call *c = t->call;
    const int64_t *strides = c->strides;
    float *to = t->weights + panel * c->channels * t->width;
    for (int64_t channel = 0; channel < c->channels; channel++)
        for (int64_t o = 0; o < t->width; o += EIGHT, to += EIGHT) {
            int64_t output = panel * t->width + o;
            eight g[3][3], half[3][IN], whole[IN];
            if (output >= c->outputs) {
                for (int plane = 0; plane < PLANES; plane++)
                    *(eight *)(to + plane * t->weight_plane) = (eight){0};
                continue;
            }
            const float *from = c->weight + output * strides[0] + channel * strides[1];
            for (int i = 0; i < EIGHT; i++)
                for (int tap = 0; tap < 9; tap++) /* [column][row]: rows are spread first */
                    g[tap % 3][tap / 3][i] = from[i * strides[0] + tap / 3 * strides[2] + tap % 3 * strides[3]];
            for (int column = 0; column < 3; column++) NAME(spread)(g[column], half[column]);
            for (int row = 0; row < IN; row++) {
                eight along[3] = {half[0][row], half[1][row], half[2][row]};
                NAME(spread)(along, whole);
                for (int column = 0; column < IN; column++)
                    *(eight *)(to + (row * IN + column) * t->weight_plane) = whole[column];
            }
        }
}

/* Transforms the sums of a panel into dL/dweight: G' u G. */
static TARGET void NAME(unpack)(const void *data, int64_t panel, void *scratch) {
    (void)scratch;
    const task *t = data;
    const convolution_call *c = t->call;
    const int64_t *strides = c->strides;
    const float *from = t->weights + panel * c->channels * t->width;
    for (int64_t channel = 0; channel < c->channels; channel++)
        for (int64_t o = 0; o < t->width; o += EIGHT, from += EIGHT) {
            int64_t output = panel * t->width + o;
            eight half[IN][3], g[3];
            if (output >= c->outputs) continue;
            for (int row = 0; row < IN; row++) {
                eight along[IN];
                for (int column = 0; column < IN; column++)
                    along[column] = *(const eight *)(from + (row * IN + column) * t->weight_plane);
                NAME(gather)(along, half[row]);
            }
            float *to = c->grad_weight + output * strides[0] + channel * strides[1];
            for (int column = 0; column < 3; column++) {
                eight down[IN];
                for (int row = 0; row < IN; row++) down[row] = half[row][column];
                NAME(gather)(down, g);
                for (int i = 0; i < EIGHT; i++)
                    for (int row = 0; row < 3; row++)
                        to[i * strides[0] + row * strides[2] + column * strides[3]] = g[row][i];
            }
        }
}
