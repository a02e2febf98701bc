/* st_diff A B TOLERANCE [part]: two safetensors files (or folders) hold the same tensors, each within TOLERANCE relative L2 (0: equal to the bit).
 * With `part` B may hold more. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "train/safetensors.h"

int main(int argc, char **argv)
{
    bif_safetensors *a = NULL, *b = NULL;
    const bool part = argc == 5 && strcmp(argv[4], "part") == 0;
    if ((argc != 4 && !part) || bif_safetensors_open(argv[1], &a) != BIF_OK || bif_safetensors_open(argv[2], &b) != BIF_OK) {
        fprintf(stderr, "st_diff: %s\n", argc != 4 && !part ? "usage: st_diff A B TOLERANCE [part]" : bif_error_message());
        return 64;
    }
    const double tolerance = atof(argv[3]);
    double worst = 0.0;
    const char *where = "";
    if ((!part && bif_safetensors_count(a) != bif_safetensors_count(b)) || bif_safetensors_count(a) == 0) {
        printf("%lld tensors against %lld\n", (long long)bif_safetensors_count(a), (long long)bif_safetensors_count(b));
        return 1;
    }
    for (int64_t i = 0; i < bif_safetensors_count(a); i++) {
        const bif_st_entry *x = bif_safetensors_at(a, i), *y = bif_safetensors_find(b, x->name);
        if (y == NULL || y->bytes != x->bytes || y->dtype != BIF_DTYPE_F32 || x->dtype != BIF_DTYPE_F32) {
            printf("%s: missing, or of another size or type\n", x->name);
            return 1;
        }
        const float *p = x->data, *q = y->data;
        double difference = 0.0, size = 0.0;
        for (size_t k = 0; k < x->bytes / sizeof *p; k++) {
            difference += ((double)p[k] - q[k]) * ((double)p[k] - q[k]);
            size += (double)p[k] * p[k];
        }
        const double relative = memcmp(p, q, x->bytes) == 0 ? 0.0 : sqrt(difference) / (sqrt(size) + 1e-30);
        if (!(relative <= worst)) {
            worst = isnan(relative) ? INFINITY : relative; /* NaN would be forgotten at the next tensor */
            where = x->name;
        }
    }
    printf("%lld tensors, largest relative difference %.3g %s\n", (long long)bif_safetensors_count(a), worst, where);
    return worst <= tolerance ? 0 : 1;
}
