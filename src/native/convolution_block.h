/* One piece of an event-driven convolution. Included once per instruction set, SET.
 *
 * The forward pass lists the channels of each pixel that are not 0, block by block. For each output
 * pixel it adds up the rows of weights that these meet, in registers. The backward pass lists the
 * places where a channel is not 0, and adds up the rows of dL/dy at these places, for each tap.
 * A row has OUTPUTS floats. */

typedef float NAME(vector) __attribute__((vector_size(BYTES), may_alias));
enum { NAME(vectors) = OUTPUTS * sizeof(float) / BYTES };

/* Computes sums[j] += value[i] * rows[index[i]][j] for each event i, and for `taps` rows in sequence. */
static inline __attribute__((always_inline)) TARGET void NAME(add_events)(
    float *restrict sums, const float *restrict rows, const uint16_t *restrict index,
    const float *restrict value, int n, const int taps) {
    NAME(vector) sum[NAME(vectors) * MOST_TAPS], *sums_ = (NAME(vector) *)sums;
    for (int j = 0; j < taps * NAME(vectors); j++) sum[j] = sums_[j];
    for (int i = 0; i < n; i++) {
        const NAME(vector) *row = (const NAME(vector) *)(rows + (size_t)index[i] * OUTPUTS);
        float v = value[i];
        for (int j = 0; j < taps * NAME(vectors); j++) sum[j] += v * row[j];
    }
    for (int j = 0; j < taps * NAME(vectors); j++) sums_[j] = sum[j];
}

/* Lists the events of some input rows, pixel after pixel. */
static TARGET void NAME(list_strip)(const task *t, const event_list *e, int64_t image, int64_t top,
                                    int64_t bottom) {
    const convolution_call *c = t->call;
    int64_t width = c->columns.input, n = 0;
    int32_t *first = e->first;
    for (int64_t p = top * width; p < bottom * width; p++)
        for (int64_t b = 0; b < t->channel_blocks; b++) {
            int64_t start = (image * c->rows.input * width + p) * c->channels + b * CHANNELS;
            int channels = (int)least(CHANNELS, c->channels - b * CHANNELS);
            *first++ = (int32_t)n;
            n += NAME(list)(c->x, start, channels, AHEAD, c->bf16, e->index + n, e->value + n);
        }
    *first = (int32_t)n;
}

/* Adds one tap and block of input channels, for the output pixels from `begin` to `end`. */
static TARGET void NAME(add_tap)(const task *t, const event_list *e, int64_t top, const float *weight,
                                 int64_t tap, int64_t b, int64_t begin, int64_t end) {
    const convolution_axis *rows = &t->call->rows, *columns = &t->call->columns;
    int64_t shift_y = tap / columns->kernel - rows->padding;
    int64_t shift_x = tap % columns->kernel - columns->padding;
    int64_t y = begin / columns->output, x = begin % columns->output;
    float *sum = e->sums;
    for (int64_t p = begin; p < end; p++, sum += OUTPUTS) {
        int64_t input_y = y * rows->stride + shift_y, input_x = x * columns->stride + shift_x;
        if (++x == columns->output) x = 0, y++;
        if (input_y < 0 || input_y >= rows->input || input_x < 0 || input_x >= columns->input)
            continue;
        const int32_t *first = e->first + ((input_y - top) * columns->input + input_x) *
                                              t->channel_blocks + b;
        NAME(add_events)(sum, weight, e->index + first[0], e->value + first[0],
                         first[1] - first[0], 1);
    }
}

/* Writes output pixels from `begin` to `end` of one block of output channels, from their sums. */
static TARGET void NAME(emit)(const convolution_call *c, const event_list *e, int64_t image,
                              int64_t block, int64_t begin, int64_t end) {
    int64_t start = block * OUTPUTS, outputs = least(OUTPUTS, c->outputs - start);
    const float *sum = e->sums;
    for (int64_t p = begin; p < end; p++, sum += OUTPUTS) {
        int64_t to = (image * c->rows.output * c->columns.output + p) * c->outputs + start;
        if (c->bf16)
            for (int64_t o = 0; o < outputs; o++)
                ((uint16_t *)c->y)[to + o] = to_bfloat16(sum[o]);
        else if (outputs == OUTPUTS)
            memcpy((float *)c->y + to, sum, OUTPUTS * sizeof *sum);
        else
            memcpy((float *)c->y + to, sum, (size_t)outputs * sizeof *sum);
    }
}

/* Computes a strip of one image, for one group of blocks of output channels. */
static TARGET void NAME(forward)(const void *data, int64_t piece, void *scratch) {
    const task *t = data;
    const convolution_call *c = t->call;
    int64_t group = piece % t->groups, strip = piece / t->groups % t->strips;
    int64_t image = piece / t->groups / t->strips;
    int64_t first = strip * t->strip, last = least(first + t->strip, c->rows.output);
    int64_t top = most(0, first * c->rows.stride - c->rows.padding);
    int64_t bottom = (last - 1) * c->rows.stride - c->rows.padding + c->rows.kernel;
    event_list e = lay_out_events(t, scratch);
    NAME(list_strip)(t, &e, image, top, least(bottom, c->rows.input));
    int64_t begin = first * c->columns.output, end = last * c->columns.output;
    for (int64_t b = group * t->group; b < least((group + 1) * t->group, t->blocks); b++)
        for (int64_t p = begin; p < end; p += TILE) {
            int64_t stop = least(p + TILE, end);
            const float *bias = t->bias + b * OUTPUTS;
            for (int64_t i = 0; i < stop - p; i++)
                memcpy(e.sums + i * OUTPUTS, bias, OUTPUTS * sizeof *bias);
            for (int64_t tap = 0; tap < t->taps; tap++)
                for (int64_t i = 0; i < t->channel_blocks; i++) {
                    const float *weight = t->packed + (b * t->taps + tap) * c->channels * OUTPUTS;
                    NAME(add_tap)(t, &e, top, weight + i * CHANNELS * OUTPUTS, tap, i, p, stop);
                }
            NAME(emit)(c, &e, image, b, p, stop);
        }
}

/* Lists where the channels from `channel` on are not 0 in the input rows from `top` to `bottom`. */
static TARGET void NAME(list_places)(const convolution_call *c, const places *e, int64_t image,
                                     int64_t channel, int64_t top, int64_t bottom, int *counts) {
    int64_t channels = least(LEARNERS, c->channels - channel), used = (bottom - top) * e->columns;
    for (int64_t y = top; y < bottom; y++)
        for (int64_t x = 0; x < c->columns.input; x++) {
            int64_t pixel = (image * c->rows.input + y) * c->columns.input + x;
            int64_t from = pixel * c->channels + channel, ahead = from + PIXELS_AHEAD * c->channels;
            float *to = e->x + (y - top) * e->columns + x;
            for (int64_t i = 0; i < channels; i += LINE / 4)
                __builtin_prefetch((const char *)c->x + (ahead + i) * (c->bf16 ? 2 : 4));
            if (c->bf16)
                for (int64_t i = 0; i < channels; i++) to[i * e->places] = load(c->x, from + i, 1);
            else
                for (int64_t i = 0; i < channels; i++) to[i * e->places] = load(c->x, from + i, 0);
        }
    for (int64_t i = 0; i < channels; i++) {
        int64_t list = i * (e->places + LANES);
        counts[i] = NAME(list)(e->x, i * e->places, (int)used, 0, 0, e->index + list,
                               e->value + list);
    }
}

/* Copies the rows of dL/dy that the input rows from `top` on meet at any tap, for one block of output
 * channels. Input (top + y, x) at tap (ky, kx) meets row (y + last ky - ky, x + last kx - kx). */
static TARGET void NAME(copy_grad)(const convolution_call *c, const places *e, int64_t image,
                                   int64_t block, int64_t top) {
    int64_t start = block * OUTPUTS, outputs = least(OUTPUTS, c->outputs - start);
    float *to = e->grad;
    for (int64_t i = 0; i < e->rows; i++)
        for (int64_t j = 0; j < e->columns; j++, to += OUTPUTS) {
            int64_t y = top + c->rows.padding - (c->rows.kernel - 1) + i;
            int64_t x = c->columns.padding - (c->columns.kernel - 1) + j;
            int inside = y >= 0 && y < c->rows.output && x >= 0 && x < c->columns.output;
            int64_t from = ((image * c->rows.output + y) * c->columns.output + x) * c->outputs;
            if (!inside || outputs < OUTPUTS) memset(to, 0, OUTPUTS * sizeof *to);
            if (!inside) continue;
            if (c->bf16)
                for (int64_t o = 0; o < outputs; o++)
                    to[o] = load(c->grad, from + start + o, 1);
            else
                for (int64_t o = 0; o < outputs; o++)
                    to[o] = load(c->grad, from + start + o, 0);
        }
}

/* Adds to the sums of each row of taps, channel and tap (from right to left). */
static TARGET void NAME(add_places)(const task *t, const places *e, float *sums,
                                    const int *counts) {
    int width = (int)t->call->columns.kernel;
    for (int64_t down = t->call->rows.kernel - 1; down >= 0; down--)
        for (int64_t i = 0; i < LEARNERS; i++, sums += width * OUTPUTS) {
            const float *grad = e->grad + down * e->columns * OUTPUTS;
            const float *value = e->value + i * (e->places + LANES);
            const uint16_t *index = e->index + i * (e->places + LANES);
            if (!counts[i]) continue;
            if (width == MOST_TAPS && BYTES == 64) /* there are registers for all sums */
                NAME(add_events)(sums, grad, index, value, counts[i], MOST_TAPS);
            else
                for (int k = 0; k < width; k++)
                    NAME(add_events)(sums + k * OUTPUTS, grad + k * OUTPUTS, index, value,
                                     counts[i], 1);
        }
}

/* Computes the sums of one piece: some input channels, one block of output channels, some of the images.
 * Their order is [kernel rows, LEARNERS, kernel columns from right to left, OUTPUTS]. */
static TARGET void NAME(backward)(const void *data, int64_t piece, void *scratch) {
    const task *t = data;
    const convolution_call *c = t->call;
    int64_t block = piece % t->blocks, channel = piece / t->blocks % t->channel_blocks * LEARNERS;
    int64_t chunk = piece / t->blocks / t->channel_blocks, size = t->taps * LEARNERS * OUTPUTS;
    float *sums = t->partial + piece * size;
    places e = lay_out_places(t, scratch);
    int counts[LEARNERS] = {0};
    memset(sums, 0, (size_t)size * sizeof *sums);
    memset(e.x, 0, (size_t)(LEARNERS * e.places) * sizeof *e.x);
    for (int64_t image = chunk * t->chunk; image < least((chunk + 1) * t->chunk, c->images); image++)
        for (int64_t top = 0; top < c->rows.input; top += t->strip) {
            int64_t bottom = least(top + t->strip, c->rows.input);
            NAME(list_places)(c, &e, image, channel, top, bottom, counts);
            NAME(copy_grad)(c, &e, image, block, top);
            NAME(add_places)(t, &e, sums, counts);
        }
}
