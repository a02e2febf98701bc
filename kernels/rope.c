/* Frequencies of the rotary embedding, the same for every device. */
#include <math.h>

#include "kernels/ops.h"

static const double TURN = 6.283185307179586;

static double plain(float theta, int64_t i, int64_t head_dim)
{
    return pow((double)theta, -2.0 * (double)i / (double)head_dim);
}

double bif_rope_divisor(const bif_rope_scaling *scaling, float theta, int64_t i, int64_t head_dim)
{
    const double factor = (double)scaling->factor, low = (double)scaling->low, high = (double)scaling->high;
    if (scaling->kind == BIF_ROPE_PLAIN) {
        return 1.0;
    }
    if (scaling->kind == BIF_ROPE_LINEAR) {
        return factor;
    }
    const double turns = (double)scaling->original * plain(theta, i, head_dim) / TURN; /* over the positions the model began with */
    if (turns > high) {
        return 1.0;
    }
    if (turns < low) {
        return factor;
    }
    const double share = (turns - low) / (high - low);
    return 1.0 / ((1.0 - share) / factor + share);
}

float bif_rope_frequency(const bif_rope_args *args, int64_t i)
{
    return (float)(plain(args->theta, i, args->head_dim) / bif_rope_divisor(&args->scaling, args->theta, i, args->head_dim));
}
