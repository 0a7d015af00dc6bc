/* Gradients of mean outputs, by inputs and by parameters, against plain loops in double. */
#include "check.h"

#include "../../src/native/rates.h"

#include <math.h>
#include <stdlib.h>

static const int64_t sizes[] = {1, 2, 15, 16, 17, 300, 2048, 2050, 70000, -1};

void check_rate_gradients(dice *d, int instructions) {
    rates_call r = {.size = one_of(d, sizes), .bf16 = (int32_t)below(d, 2), .means = some_means(d, instructions)};
    void *grad = tensor(r.size, r.bf16);
    float *by = tensor(3 * r.size, 0);
    for (int64_t i = 0; i < r.size; i++) put(grad, i, normal(d), r.bf16);
    for (int64_t i = 0; i < 3 * r.size; i++) by[i] = normal(d);
    double sums[RATES_PARAMETERS], again[RATES_PARAMETERS];
    r.grad = grad, r.by_input = by, r.grad_x = tensor(r.size, r.bf16), r.sums = sums;
    for (int p = 0; p < RATES_PARAMETERS; p++) r.by[p] = below(d, 2) ? by + (p + 1) * r.size : NULL;
    if (leanspike_rates(&r)) fail("rates: no memory");
    for (int64_t i = 0; i < r.size; i++) {
        double wanted = (double)load(grad, i, r.bf16) * by[i], found = load(r.grad_x, i, r.bf16);
        if (!(fabs(found - wanted) <= fabs(wanted) * (r.bf16 ? 1.0 / 128.0 : 1e-6)))
            fail("rates: gradient %lld is %.9g, not %.9g", (long long)i, found, wanted);
    }
    for (int p = 0; p < RATES_PARAMETERS; p++) {
        double wanted = 0.0, size = 1e-6;
        for (int64_t i = 0; r.by[p] && i < r.size; i++) {
            double product = (double)load(grad, i, r.bf16) * r.by[p][i];
            wanted += product, size += fabs(product);
        }
        if (!(fabs(sums[p] - wanted) <= 1e-5 * size)) fail("rates: sum %d is %.9g, not %.9g", p, sums[p], wanted);
    }
    r.sums = again, r.means.threads = 1;
    if (leanspike_rates(&r)) fail("rates: no memory");
    if (memcmp(sums, again, sizeof sums)) fail("rates: sums depend on the threads");
    free(grad), free(by), free(r.grad_x);
}
