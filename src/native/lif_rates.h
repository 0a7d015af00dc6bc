/* Neighbouring neurons through all timesteps. The derivatives of their mean output are added up while they
 * fire. Include this after lif_rows.h. */

/* The derivatives of a membrane by the input (the same at every step), the leak and the threshold, and the
 * sums over the steps of their effects on the output. */
typedef struct {
    vector input, leak, threshold, by_input, by_leak, by_threshold, height;
} NAME(slopes);

/* `last` is the membrane after the last step, `m` the one that is compared now, `arrival` the step's weight. */
ROW void NAME(follow)(const neuron k, NAME(slopes) *e, vector last, vector m, float arrival,
                      const int surrogate, const int reset, const int learn) {
    vector slope = arrival * NAME(derivative)(k, m, surrogate);
    mask fired = m > k.threshold;
    e->input = k.leak * e->input + 1.0f;
    e->by_input += slope * e->input;
    if (learn) {
        vector before = k.leak * e->threshold;
        if (reset == RESET_UNDECAYED) before -= NAME(only)(last > k.threshold, NAME(all)(1.0f));
        e->threshold = before;
        e->leak = k.leak * e->leak + last;
        e->by_leak += slope * e->leak;
        e->height += NAME(only)(fired, NAME(all)(arrival));
        e->by_threshold += slope * (e->threshold - m * k.inverse_threshold);
        if (reset == RESET_SOFT) e->threshold -= NAME(only)(fired, NAME(all)(1.0f));
    }
    if (reset == RESET_HARD) {
        e->input = NAME(only)(~fired, e->input);
        e->leak = NAME(only)(~fired, e->leak);
        e->threshold = NAME(only)(~fired, e->threshold);
    }
}

/* Sets the derivatives of a membrane that is held at the floor. */
ROW void NAME(hold)(const neuron k, NAME(slopes) *e, vector u) {
    mask held = k.sign * u <= k.lowest;
    e->input = NAME(only)(~held, e->input);
    e->leak = NAME(only)(~held, e->leak);
    e->threshold = NAME(select)(held, NAME(all)(-k.floor), e->threshold);
}

ROW void NAME(write_slopes)(const lif_call *c, const neuron k, const NAME(slopes) *e, int64_t i,
                            const int learn, const int bf16) {
    const float steps = (float)c->steps;
    for (int j = 0; j < VECTORS; j++) {
        NAME(write_membranes)(c->by_input + i, j, k.sign_x * e[j].by_input / steps, bf16);
        if (!learn) continue;
        vector by_threshold = (k.sign_x * e[j].by_threshold + k.height_learns * e[j].height) / steps;
        NAME(write_membranes)(c->by_leak + i, j, k.sign_x * k.sign * e[j].by_leak / steps, bf16);
        NAME(write_membranes)(c->by_threshold + i, j, by_threshold, bf16);
    }
}

ROW void NAME(rates_as)(const task *t, place *p, int64_t start, int64_t end, const int surrogate,
                        const int reset, const int learn, const int bf16, const int floored) {
    const lif_call *c = t->call;
    const neuron k = t->neuron;
    const norm_table *n = &t->norm;
    const int64_t x_step = c->x_step * t->width, step = c->size * t->width, steps = c->steps;
    for (int64_t i = start; i < end; i += NAME(group)) {
        const char *x = (const char *)c->x + i * t->width;
        char *spikes = (char *)c->spikes + i * t->width;
        const int64_t at = place_of(n, p->origin + i);
        NAME(slopes) e[VECTORS];
        memset(e, 0, sizeof e);
        vector u[VECTORS], o[VECTORS], fired[VECTORS] = {{0}};
        for (int j = 0; j < VECTORS; j++) {
            u[j] = NAME(all)(k.initial);
            if (c->half_initial) e[j].threshold = NAME(all)(0.5f);
        }
        fetch(&p->ahead, steps * NAME(group));
        for (int64_t s = 0; s < steps; s++, x += x_step, spikes += step) {
            const float arrival = c->arrival ? c->arrival[s] : 1.0f;
            for (int j = 0; j < VECTORS; j++) {
                vector m = NAME(membrane)(k, u[j], NAME(current)(n, x, s, at, j, bf16), reset);
                mask fires = m > k.threshold;
                NAME(follow)(k, &e[j], u[j], m, arrival, surrogate, reset, learn);
                u[j] = NAME(after)(k, m, fires, reset, floored);
                if (floored) NAME(hold)(k, &e[j], u[j]);
                o[j] = NAME(select)(fires, NAME(all)(k.high), NAME(all)(k.low));
                fired[j] += NAME(only)(fires, NAME(all)(1.0f));
            }
            NAME(write)(spikes, o, t->passing, 1, bf16);
        }
        NAME(write_slopes)(c, k, e, i, learn, bf16);
        for (int j = 0; j < VECTORS; j++) o[j] = (fired[j] * k.high + k.low) / (float)steps;
        NAME(write)((char *)c->mean + i * t->width, o, 0, 0, bf16);
    }
}

/* The papers' surrogate has a function for each reset. All other surrogates share one for each reset, since
 * one for each of them would take a minute to compile. One function serves all neurons with a floor, and
 * with FEW all others, too. */
#define RATES(name, surrogate, reset, learn, bf16, floored)                                         \
    static TARGET void NAME(rates_##name)(const task *t, place *p, int64_t start, int64_t end) {    \
        NAME(rates_as)(t, p, start, end, surrogate, reset, learn, bf16, floored);                   \
    }
#define RATES_ANY(name, floored)                                                                    \
    RATES(name, t->call->surrogate, t->call->reset, t->call->by_leak != NULL, t->call->bf16 != 0, floored)
#ifdef FEW
RATES_ANY(any, t->neuron.floored)

static TARGET void NAME(rates)(const task *t, place *p, int64_t start, int64_t end) {
    NAME(rates_any)(t, p, start, end);
}
#else
#define ALL_RATES(name, surrogate, reset)                                                           \
    RATES(name##reset##00, surrogate, reset, 0, 0, 0) RATES(name##reset##01, surrogate, reset, 0, 1, 0) \
    RATES(name##reset##10, surrogate, reset, 1, 0, 0) RATES(name##reset##11, surrogate, reset, 1, 1, 0)
ALL_RATES(triangle, SURROGATE_TRIANGLE, 0)
ALL_RATES(triangle, SURROGATE_TRIANGLE, 1)
ALL_RATES(triangle, SURROGATE_TRIANGLE, 2)
ALL_RATES(other, t->call->surrogate, 0)
ALL_RATES(other, t->call->surrogate, 1)
ALL_RATES(other, t->call->surrogate, 2)
RATES_ANY(floored, 1)

#define LISTED(name, reset)                                                                         \
    {{NAME(rates_##name##reset##00), NAME(rates_##name##reset##01)},                                \
     {NAME(rates_##name##reset##10), NAME(rates_##name##reset##11)}}
static TARGET void NAME(rates)(const task *t, place *p, int64_t start, int64_t end) {
    static range_fn *const listed[2][3][2][2] = {
        {LISTED(triangle, 0), LISTED(triangle, 1), LISTED(triangle, 2)},
        {LISTED(other, 0), LISTED(other, 1), LISTED(other, 2)}};
    const lif_call *c = t->call;
    range_fn *const *const plain = listed[c->surrogate != SURROGATE_TRIANGLE][c->reset][c->by_leak != NULL];
    (t->neuron.floored ? NAME(rates_floored) : plain[c->bf16 != 0])(t, p, start, end);
}
#undef ALL_RATES
#undef LISTED
#endif

#undef RATES
#undef RATES_ANY
