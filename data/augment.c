#include "data/augment.h"

#include <math.h>

#include "base/rng.h"
#include "data/resize.h"

enum { TRIALS = 10, FLIP = 16 }; /* sub of BIF_RNG_AUGMENT: a trial's number, or FLIP */

static double between(double low, double high, uint32_t word)
{
    return low + (high - low) * ((double)word * 0x1p-32);
}

/* Uniform in [0, n). */
static int64_t below(int64_t n, uint32_t word)
{
    return (int64_t)((uint64_t)n * word >> 32);
}

bool bif_augments(const bif_augment *augment)
{
    return augment->scale > 0.0 || augment->flip > 0.0;
}

static bool draw_box(const bif_augment *augment, const uint32_t word[4], int64_t width, int64_t height, bif_view *view)
{
    const double area = (double)width * (double)height * between(augment->scale, 1.0, word[0]);
    const double aspect = exp(between(-log(augment->ratio), log(augment->ratio), word[1]));
    const double w = rint(sqrt(area * aspect)), h = rint(sqrt(area / aspect)); /* half to even, as Python rounds */
    if (w < 1.0 || h < 1.0 || w > (double)width || h > (double)height) {
        return false;
    }
    view->w = (int64_t)w;
    view->h = (int64_t)h;
    view->y = below(height - view->h + 1, word[2]);
    view->x = below(width - view->w + 1, word[3]);
    return true;
}

static void centre_box(const bif_augment *augment, int64_t width, int64_t height, bif_view *view)
{
    const double aspect = (double)width / (double)height;
    view->w = aspect > augment->ratio ? (int64_t)rint((double)height * augment->ratio) : width;
    view->h = aspect < 1.0 / augment->ratio ? (int64_t)rint((double)width * augment->ratio) : height;
    view->x = (width - view->w) / 2;
    view->y = (height - view->h) / 2;
}

bif_view bif_augment_view(const bif_augment *augment, uint64_t seed, uint64_t index, int64_t width, int64_t height)
{
    bif_view view = {.w = width, .h = height};
    uint32_t word[4];
    bool found = augment->scale <= 0.0;
    for (uint32_t trial = 0; !found && trial < TRIALS; trial++) {
        bif_philox(seed, BIF_RNG_AUGMENT, index, trial, word);
        found = draw_box(augment, word, width, height, &view);
    }
    if (!found) {
        centre_box(augment, width, height, &view);
    }
    bif_philox(seed, BIF_RNG_AUGMENT, index, FLIP, word);
    view.flip = between(0.0, 1.0, word[0]) < augment->flip;
    return view;
}

static void mirror(uint8_t *pixels, int64_t size)
{
    for (int64_t y = 0; y < size; y++) {
        uint8_t *left = pixels + 3 * y * size, *right = left + 3 * (size - 1);
        for (; left < right; left += 3, right -= 3) {
            for (int c = 0; c < 3; c++) {
                const uint8_t level = left[c];
                left[c] = right[c];
                right[c] = level;
            }
        }
    }
}

bif_status bif_augment_run(const bif_augment *augment, uint64_t seed, uint64_t index, const bif_preprocess *preprocess,
                           const bif_image *image, uint8_t *out)
{
    bif_status st = BIF_OK;
    const int64_t s = preprocess->size;
    if (image->rgb == NULL || image->width < 1 || image->height < 1 || augment->scale <= 0.0) {
        BIF_TRY(bif_preprocess_run(preprocess, image, out)); /* says what is wrong with such a picture */
    }
    const bif_view view = bif_augment_view(augment, seed, index, image->width, image->height);
    if (augment->scale > 0.0) {
        bif_resize_window(&(bif_resize_job){.rgb = image->rgb + 3 * (view.y * image->width + view.x),
                                            .stride = 3 * image->width,
                                            .width = view.w,
                                            .height = view.h,
                                            .canvas_width = view.w,
                                            .canvas_height = view.h,
                                            .out_width = s,
                                            .out_height = s,
                                            .w = s,
                                            .h = s},
                          out);
    }
    if (view.flip) {
        mirror(out, s);
    }
done:
    return st;
}
