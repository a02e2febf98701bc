#include "train/schedule.h"

#include <math.h>

int64_t bif_warmup_steps(const bif_config *config, int64_t steps)
{
    if (config->optimizer.warmup_steps > 0) {
        return config->optimizer.warmup_steps;
    }
    return (int64_t)ceil(config->optimizer.warmup_ratio * (double)steps);
}

double bif_schedule(bif_schedule_kind kind, int64_t step, int64_t steps, int64_t warmup, double min_lr_ratio)
{
    if (step < warmup) {
        return (double)step / (double)(warmup > 1 ? warmup : 1);
    }
    if (kind == BIF_SCHEDULE_CONSTANT) {
        return 1.0;
    }
    int64_t span = steps - warmup;
    double progress = (double)(step - warmup) / (double)(span > 1 ? span : 1);
    double cosine = 0.5 * (1.0 + cos(3.14159265358979323846 * progress));
    return min_lr_ratio + (1.0 - min_lr_ratio) * (cosine > 0.0 ? cosine : 0.0);
}
