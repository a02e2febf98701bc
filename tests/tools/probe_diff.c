/* probe_diff EXPECTED GOT TOLERANCE: every tensor of EXPECTED is in GOT (which may hold more): integers equal, floats
 * within TOLERANCE relative L2. A tensor of EXPECTED with fewer rows stands for the first rows of GOT's. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "train/safetensors.h"

static bool same_shape(const bif_st_entry *x, const bif_st_entry *y)
{
    bool same = x->rank == y->rank && x->dtype == y->dtype && (x->rank == 0 || x->dim[0] <= y->dim[0]);
    for (int d = 1; same && d < x->rank; d++) {
        same = x->dim[d] == y->dim[d];
    }
    return same;
}

static double distance(const bif_st_entry *x, const bif_st_entry *y)
{
    double difference = 0.0, size = 0.0;
    if (x->dtype != BIF_DTYPE_F32) {
        return memcmp(x->data, y->data, x->bytes) == 0 ? 0.0 : INFINITY;
    }
    for (size_t k = 0; k < x->bytes / sizeof(float); k++) {
        float p, q;
        memcpy(&p, (const char *)x->data + k * sizeof p, sizeof p);
        memcpy(&q, (const char *)y->data + k * sizeof q, sizeof q);
        difference += ((double)p - q) * ((double)p - q);
        size += (double)p * p;
    }
    return sqrt(difference) / (sqrt(size) + 1e-30);
}

int main(int argc, char **argv)
{
    bif_safetensors *want = NULL, *got = NULL;
    if (argc != 4 || bif_safetensors_open(argv[1], &want) != BIF_OK || bif_safetensors_open(argv[2], &got) != BIF_OK) {
        fprintf(stderr, "probe_diff: %s\n",
                argc != 4 ? "usage: probe_diff EXPECTED GOT TOLERANCE" : bif_error_message());
        return 64;
    }
    const double tolerance = atof(argv[3]);
    int wrong = bif_safetensors_count(want) == 0;
    for (int64_t i = 0; i < bif_safetensors_count(want); i++) {
        const bif_st_entry *x = bif_safetensors_at(want, i), *y = bif_safetensors_find(got, x->name);
        if (y == NULL || !same_shape(x, y)) {
            printf("%s: missing, or of another shape or type\n", x->name);
            wrong++;
        } else if (!(distance(x, y) <= tolerance)) {
            printf("%s: relative difference %.3g\n", x->name, distance(x, y));
            wrong++;
        }
    }
    printf("%lld tensors, %d wrong\n", (long long)bif_safetensors_count(want), wrong);
    return wrong > 0;
}
