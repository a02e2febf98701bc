#include <math.h>
#include <string.h>

#include "data/image.h"
#include "data/resize.h"

bif_preprocess bif_preprocess_clip(int64_t size)
{
    return (bif_preprocess){ .size = size,
                             .fit = BIF_FIT_CROP,
                             .mean = { 0.48145466f, 0.4578275f, 0.40821073f },
                             .std = { 0.26862954f, 0.26130258f, 0.27577711f } };
}

bif_preprocess bif_preprocess_siglip(int64_t size)
{
    return (bif_preprocess){ .size = size, .fit = BIF_FIT_SQUASH, .mean = { 0.5f, 0.5f, 0.5f }, .std = { 0.5f, 0.5f, 0.5f } };
}

static uint8_t level(double value)
{
    return (uint8_t)(value < 0.0 ? 0.0 : value > 255.0 ? 255.0 : value);
}

bif_status bif_preprocess_run(const bif_preprocess *preprocess, const bif_image *image, uint8_t *out)
{
    int64_t s = preprocess->size, w = image->width, h = image->height;
    if (s < 1 || s > 16384) {
        return bif_fail(BIF_ERR_CONFIG, "picture size %lld is not between 1 and 16384", (long long)s);
    }
    if (image->rgb == NULL || w < 1 || h < 1) {
        return bif_fail(BIF_ERR_DATA, "a picture without pixels cannot be resized");
    }
    bif_resize_job job = { .rgb = image->rgb,
                           .width = w,
                           .height = h,
                           .canvas_width = w,
                           .canvas_height = h,
                           .out_width = s,
                           .out_height = s,
                           .w = s,
                           .h = s };
    switch (preprocess->fit) {
    case BIF_FIT_CROP: {
        /* The quotient is taken in double and cut, as int(S * long / short) is in Python: the product is exact. */
        double product = (double)(s * (w > h ? w : h));
        int64_t other = (int64_t)floor(product / (double)(w > h ? h : w));
        job.out_width = w > h ? other : s;
        job.out_height = w > h ? s : other;
        job.x = (job.out_width - s) / 2;
        job.y = (job.out_height - s) / 2;
        break;
    }
    case BIF_FIT_PAD:
        job.canvas_width = job.canvas_height = w > h ? w : h;
        job.off_x = (job.canvas_width - w) / 2;
        job.off_y = (job.canvas_height - h) / 2;
        for (int c = 0; c < 3; c++) {
            job.fill[c] = level(floor((double)preprocess->mean[c] * 255.0));
        }
        break;
    case BIF_FIT_SQUASH:
        break;
    default:
        return bif_fail(BIF_ERR_CONFIG, "unknown way %d to fit a picture (crop, pad or squash)", (int)preprocess->fit);
    }
    bif_resize_window(&job, out);
    return BIF_OK;
}

bif_status bif_preprocess_table(const bif_preprocess *preprocess, float table[3 * 256])
{
    for (int c = 0; c < 3; c++) {
        if (!(preprocess->std[c] > 0.0f)) {
            return bif_fail(BIF_ERR_CONFIG, "the standard deviation of channel %d is %g; it must be above 0", c,
                            (double)preprocess->std[c]);
        }
        for (int v = 0; v < 256; v++) {
            /* Rounded to f32 after the scaling and after each step of the normalisation, as CLIPImageProcessor does. */
            float scaled = (float)(v * (1.0 / 255.0));
            table[c * 256 + v] = (scaled - preprocess->mean[c]) / preprocess->std[c];
        }
    }
    return BIF_OK;
}

void bif_preprocess_blank(const bif_preprocess *preprocess, int64_t pictures, uint8_t *out)
{
    const int64_t pixels = pictures * preprocess->size * preprocess->size;
    uint8_t colour[3];
    for (int c = 0; c < 3; c++) {
        colour[c] = level(rint((double)preprocess->mean[c] * 255.0));
    }
    for (int64_t i = 0; i < pixels; i++) {
        memcpy(out + i * 3, colour, sizeof colour);
    }
}
