/* greedy PROBE.safetensors: whether every supervised token of what `bifocal probe` wrote is what the model finds most likely behind the tokens before
 * it, so that the answers of the samples are the model's own greedy ones. Prints how many there are. */
#include <stdio.h>
#include <string.h>

#include "train/safetensors.h"

int main(int argc, char **argv)
{
    bif_safetensors *set = NULL;
    if (argc != 2 || bif_safetensors_open(argv[1], &set) != BIF_OK) {
        fprintf(stderr, "greedy: %s\n", argc != 2 ? "usage: greedy PROBE.safetensors" : bif_error_message());
        return 64;
    }
    const bif_st_entry *labels = bif_safetensors_find(set, "labels"), *logits = bif_safetensors_find(set, "logits");
    if (labels == NULL || logits == NULL || logits->dtype != BIF_DTYPE_F32 || logits->rank != 2 || labels->rank != 1) {
        fprintf(stderr, "greedy: no labels [T] or logits [T, V] in %s\n", argv[1]);
        return 64;
    }
    const int64_t tokens = labels->dim[0], vocab = logits->dim[1];
    const size_t width = labels->bytes / (size_t)tokens; /* i32 or i64 */
    int64_t supervised = 0, wrong = 0;
    for (int64_t t = 1; t < tokens; t++) {
        int64_t label = 0;
        int32_t small = 0;
        memcpy(width == 8 ? (void *)&label : (void *)&small, (const char *)labels->data + (size_t)t * width, width);
        label = width == 8 ? label : small;
        int64_t best = 0;
        float most = 0.0f;
        for (int64_t v = 0; v < vocab; v++) {
            float value;
            memcpy(&value, (const char *)logits->data + (size_t)((t - 1) * vocab + v) * sizeof value, sizeof value);
            if (v == 0 || value > most) {
                most = value;
                best = v;
            }
        }
        if (label >= 0) {
            supervised++;
            if (best != label) {
                printf("token %lld: %lld, the model says %lld\n", (long long)t, (long long)label, (long long)best);
                wrong++;
            }
        }
    }
    printf("%lld supervised, %lld are not the model's\n", (long long)supervised, (long long)wrong);
    return wrong > 0 || supervised == 0;
}
