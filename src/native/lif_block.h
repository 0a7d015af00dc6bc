/* Neighbouring neurons through all timesteps, forward and backward; after lif_rows.h. */

ROW void NAME(forward_as)(const task *t, place *p, int64_t start, int64_t end, const int reset,
                          const int bf16, const int floored) {
    const lif_call *c = t->call;
    const neuron k = t->neuron;
    const norm_table *n = &t->norm;
    const int64_t x_step = c->x_step * t->width, step = c->size * t->width, steps = c->steps;
    const int passing = t->passing;
    for (int64_t i = start; i < end; i += NAME(group)) {
        const char *x = (const char *)c->x + i * t->width;
        char *spikes = (char *)c->spikes + i * t->width;
        const int64_t at = place_of(n, p->origin + i);
        vector u[VECTORS], o[VECTORS];
        for (int j = 0; j < VECTORS; j++)
            if (c->before) u[j] = k.sign * NAME(read_membranes)(c->before + i, j, bf16);
            else u[j] = NAME(all)(k.initial);
        fetch(&p->ahead, steps * NAME(group));
        for (int64_t s = 0; s < steps; s++, x += x_step, spikes += step) {
            for (int j = 0; j < VECTORS; j++) {
                vector m = NAME(membrane)(k, u[j], NAME(current)(n, x, s, at, j, bf16), reset);
                mask fired = m > k.threshold;
                u[j] = NAME(after)(k, m, fired, reset, floored);
                o[j] = NAME(select)(fired, NAME(all)(k.high), NAME(all)(k.low));
            }
            NAME(write)(spikes, o, passing, 1, bf16);
        }
        if (c->after)
            for (int j = 0; j < VECTORS; j++)
                NAME(write_membranes)(c->after + i, j, k.sign * u[j], bf16);
    }
}

/* One function serves all neurons with a floor, whatever their other options are. */
#define FORWARD(name, reset, bf16, floored)                                                         \
    static TARGET void NAME(forward_##name)(const task *t, place *p, int64_t start, int64_t end) {  \
        NAME(forward_as)(t, p, start, end, reset, bf16, floored);                                   \
    }
FORWARD(00, 0, 0, 0) FORWARD(10, 1, 0, 0) FORWARD(20, 2, 0, 0)
FORWARD(01, 0, 1, 0) FORWARD(11, 1, 1, 0) FORWARD(21, 2, 1, 0)
FORWARD(floored, t->call->reset, t->call->bf16 != 0, 1)

static TARGET void NAME(forward)(const task *t, place *p, int64_t start, int64_t end) {
    static range_fn *const listed[3][2] = {{NAME(forward_00), NAME(forward_01)},
                                           {NAME(forward_10), NAME(forward_11)},
                                           {NAME(forward_20), NAME(forward_21)}};
    const lif_call *c = t->call;
    (t->neuron.floored ? NAME(forward_floored) : listed[c->reset][c->bf16 != 0])(t, p, start, end);
}

/* Adds dL/dy, and its products with x - centre, to the sums of each channel. */
ROW void NAME(add_to_channels)(const norm_table *n, float *sums, const void *x, vector grad, int64_t s,
                               int64_t at, int j, const int bf16) {
    const int lanes = NAME(lanes);
    float *to = sums + 2 * s * n->step;
    to += bf16 ? j % 2 * n->half + at / 2 + j / 2 * lanes : at + j * lanes;
    vector centre = NAME(of_channels)(n, n->centre + s * n->step, at, j, bf16);
    vector moved = NAME(read)(x, j, bf16) - centre;
    NAME(store)(to, NAME(read)(to, 0, 0) + grad, 0);
    NAME(store)(to + n->length, NAME(read)(to + n->length, 0, 0) + grad * moved, 0);
}

/* Computes the membranes before the reset again, into `befores`, and then dL/dm, from the last step to the
 * first. `later` is dL/dm of the next step, or 0 after the last. Adds to the sums of dL/dleak and
 * dL/dthreshold. */
ROW void NAME(backward_as)(const task *t, place *p, int64_t start, int64_t end, const int surrogate,
                           const int reset, const int learn, const int bf16, const int floored) {
    const lif_call *c = t->call;
    const neuron k = t->neuron;
    const norm_table *n = &t->norm;
    vector *befores = p->befores;
    const int64_t x_step = c->x_step * t->width, grad_step = c->grad_step * t->width;
    const int64_t step = c->size * t->width, steps = c->steps;
    const int passing = t->passing, static_x = c->static_x, each_x = c->grad_x && !static_x;
    const int hard = reset == RESET_HARD;
    vector all[6] = {{0}};
    for (int64_t i = start; i < end; i += NAME(group)) {
        vector kept = {0}, fallen = {0}, given = {0}, moved = {0}, first = {0}, held = {0};
        const char *x = (const char *)c->x + i * t->width;
        const char *grad = (const char *)c->grad + i * t->width + steps * grad_step;
        char *grad_x = each_x ? (char *)c->grad_x + i * t->width + steps * step : NULL;
        const int64_t at = place_of(n, p->origin + i);
        vector u[VECTORS], later[VECTORS], to_x[VECTORS], sum[VECTORS], *m = befores;
        for (int j = 0; j < VECTORS; j++) {
            u[j] = NAME(all)(k.initial);
            later[j] = sum[j] = NAME(all)(0.0f);
        }
        fetch(&p->ahead, 2 * steps * NAME(group));
        for (int64_t s = 0; s < steps; s++, x += x_step, m += VECTORS)
            for (int j = 0; j < VECTORS; j++) {
                vector current = NAME(current)(n, x, s, at, j, bf16);
                vector before = NAME(membrane)(k, u[j], current, reset);
                u[j] = NAME(after)(k, before, before > k.threshold, reset, floored);
                m[j] = before;
            }
        for (int64_t s = steps - 1; s >= 0; s--) {
            m -= VECTORS, grad -= grad_step, x -= x_step;
            for (int j = 0; j < VECTORS; j++) {
                vector before = m[j], g = NAME(read)(grad, j, bf16);
                mask fired = before > k.threshold;
                vector slope = g * NAME(derivative)(k, before, surrogate);
                vector back = k.leak * later[j];
                if (floored) { /* a membrane at the floor depends on the floor only */
                    mask sunken = NAME(sunken)(k, NAME(reset)(k, before, fired, reset));
                    held += NAME(only)(sunken, later[j]);
                    later[j] = NAME(only)(~sunken, later[j]);
                    back = NAME(only)(~sunken, back);
                }
                if (learn) {
                    if (s < steps - 1) /* the last step has no next one; 0 * infinity would be NaN */
                        kept += later[j] * (hard ? NAME(only)(~fired, before) : before);
                    if (!hard) fallen += NAME(only)(fired, later[j]);
                    given += NAME(only)(fired, g);
                    moved += slope * before;
                }
                later[j] = slope + (hard ? NAME(only)(~fired, back) : back);
                to_x[j] = k.sign_x * later[j];
                if (static_x) sum[j] += to_x[j];
                if (c->grad_norm) NAME(add_to_channels)(n, p->channels, x, to_x[j], s, at, j, bf16);
            }
            if (each_x) NAME(write)(grad_x -= step, to_x, passing, 0, bf16);
        }
        for (int j = 0; j < VECTORS; j++) first += later[j];
        if (learn) {
            all[0] += kept, all[1] += fallen, all[2] += given, all[3] += moved;
            all[4] += first, all[5] += held;
        }
        if (c->grad_x && static_x) {
            for (int j = 0; j < VECTORS; j++) sum[j] /= (float)steps;
            NAME(write)((char *)c->grad_x + i * t->width, sum, 0, 0, bf16);
        }
    }
    if (!learn) return;
    double sum[6] = {0};
    for (int a = 0; a < 6; a++)
        for (int i = 0; i < NAME(lanes); i++) sum[a] += all[a][i];
    const double lost = reset == RESET_UNDECAYED ? 0.0 : k.threshold * sum[1]; /* before the leak */
    const double leak = reset == RESET_UNDECAYED ? 1.0 : k.leak; /* the leak that applies to the reset */
    double by_leak = sum[0] - lost + k.initial * sum[4] + k.sign * k.lowest * sum[5];
    double by_threshold = k.initial_learns * sum[4] - leak * sum[1] - k.inverse_threshold * sum[3];
    by_threshold -= k.leak * k.floor * sum[5];
    p->sums[0] += k.sign * k.sign_x * by_leak;
    p->sums[1] += k.sign_x * by_threshold + k.height_learns * sum[2];
}

#define BACKWARD(name, surrogate, reset, learn, bf16, floored)                                      \
    static TARGET void NAME(backward_##name)(const task *t, place *p, int64_t start, int64_t end) { \
        NAME(backward_as)(t, p, start, end, surrogate, reset, learn, bf16, floored);                \
    }
#define BACKWARD_ANY(name, floored)                                                                 \
    BACKWARD(name, t->call->surrogate, t->call->reset, t->call->grad_neuron != NULL, t->call->bf16 != 0, floored)
#ifdef FEW_KERNELS /* one function for all: under sanitizers each takes a second to compile */
BACKWARD_ANY(any, t->neuron.floored)

static TARGET void NAME(backward)(const task *t, place *p, int64_t start, int64_t end) {
    NAME(backward_any)(t, p, start, end);
}
#else
#define BACKWARDS(surrogate, reset)                                                                 \
    BACKWARD(surrogate##reset##00, surrogate, reset, 0, 0, 0)                                       \
    BACKWARD(surrogate##reset##01, surrogate, reset, 0, 1, 0)                                       \
    BACKWARD(surrogate##reset##10, surrogate, reset, 1, 0, 0)                                       \
    BACKWARD(surrogate##reset##11, surrogate, reset, 1, 1, 0)
BACKWARDS(0, 0) BACKWARDS(0, 1) BACKWARDS(0, 2) BACKWARDS(1, 0) BACKWARDS(1, 1) BACKWARDS(1, 2)
BACKWARDS(2, 0) BACKWARDS(2, 1) BACKWARDS(2, 2) BACKWARDS(3, 0) BACKWARDS(3, 1) BACKWARDS(3, 2)
BACKWARD_ANY(floored, 1)

#define LISTED(surrogate, reset)                                                                    \
    {{NAME(backward_##surrogate##reset##00), NAME(backward_##surrogate##reset##01)},                \
     {NAME(backward_##surrogate##reset##10), NAME(backward_##surrogate##reset##11)}}
static TARGET void NAME(backward)(const task *t, place *p, int64_t start, int64_t end) {
    static range_fn *const listed[4][3][2][2] = {{LISTED(0, 0), LISTED(0, 1), LISTED(0, 2)},
                                                 {LISTED(1, 0), LISTED(1, 1), LISTED(1, 2)},
                                                 {LISTED(2, 0), LISTED(2, 1), LISTED(2, 2)},
                                                 {LISTED(3, 0), LISTED(3, 1), LISTED(3, 2)}};
    const lif_call *c = t->call;
    range_fn *const plain = listed[c->surrogate][c->reset][c->grad_neuron != NULL][c->bf16 != 0];
    (t->neuron.floored ? NAME(backward_floored) : plain)(t, p, start, end);
}
#undef BACKWARDS
#undef LISTED
#endif

#undef FORWARD
#undef BACKWARD
#undef BACKWARD_ANY
