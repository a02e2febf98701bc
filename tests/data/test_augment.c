// Random views: boxes as torchvision's RandomResizedCrop draws them, pixels as Pillow crops and resizes them.
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "data/augment.h"
#include "data/resize.h"
#include "pictures.h"

enum { DRAWS = 20000 };

Test(augment, a_box_of_a_picture_is_resized_as_by_pillow)
{
    FILE *list = picture_list("crops.txt");
    cr_assert(list != NULL);
    long long w, h, x, y, bw, bh, s;
    unsigned expected;
    int count = 0;
    while (fscanf(list, "%lld %lld %lld %lld %lld %lld %lld %x", &w, &h, &x, &y, &bw, &bh, &s, &expected) == 8) {
        uint8_t *rgb = picture_pattern(w, h), *out = bif_malloc((size_t)(3 * s * s));
        bif_resize_window(&(bif_resize_job){.rgb = rgb + 3 * (y * w + x), .stride = 3 * w, .width = bw, .height = bh, .canvas_width = bw,
                                            .canvas_height = bh, .out_width = s, .out_height = s, .w = s, .h = s}, out);
        cr_expect(picture_crc(out, (size_t)(3 * s * s)) == expected, "%lldx%lld at %lld, %lld of %lldx%lld", bw, bh, x, y, w, h);
        free(rgb);
        free(out);
        count++;
    }
    fclose(list);
    cr_assert(count == 60);
}

/* The pixels are those of the view: cut, resized, mirrored one after the other. */
Test(augment, run_shows_the_view)
{
    enum { W = 90, H = 61, S = 24 };
    uint8_t *rgb = picture_pattern(W, H), cut[3 * W * H], whole[3 * S * S], out[3 * S * S + 16];
    const bif_image image = {rgb, W, H};
    const bif_preprocess preprocess = bif_preprocess_clip(S);
    int flips = 0;
    for (uint64_t i = 0; i < 60; i++) {
        const bif_augment augment = {.scale = i % 3 ? 0.2 : 0.0, .ratio = 1.5, .flip = 0.5};
        const bif_view view = bif_augment_view(&augment, 9, i, W, H);
        memset(out, 0xa5, sizeof out);
        cr_assert(bif_augment_run(&augment, 9, i, &preprocess, &image, out) == BIF_OK);
        for (int64_t y = 0; y < view.h; y++) {
            memcpy(cut + 3 * y * view.w, rgb + 3 * ((view.y + y) * W + view.x), (size_t)(3 * view.w));
        }
        bif_resize_bicubic(cut, view.w, view.h, whole, S, S);
        if (augment.scale == 0.0) {
            cr_assert(view.x == 0 && view.y == 0 && view.w == W && view.h == H);
            cr_assert(bif_preprocess_run(&preprocess, &image, whole) == BIF_OK);
        }
        for (int y = 0; y < S; y++) {
            for (int x = 0; x < S; x++) {
                cr_assert(memcmp(out + 3 * (y * S + x), whole + 3 * (y * S + (view.flip ? S - 1 - x : x)), 3) == 0, "view %d", (int)i);
            }
        }
        for (int k = 0; k < 16; k++) {
            cr_assert(out[3 * S * S + k] == 0xa5);
        }
        flips += view.flip;
    }
    cr_assert(flips > 15 && flips < 45, "%d flips", flips);
    cr_assert(bif_augment_run(&(bif_augment){.scale = 0.5, .ratio = 1.0}, 1, 1, &preprocess, &(bif_image){0}, out) == BIF_ERR_DATA);
    free(rgb);
}

/* The share of the area is uniform, so is the logarithm of the aspect, and so is the place. */
Test(augment, boxes_are_spread_as_torchvision_spreads_them)
{
    const bif_augment augment = {.scale = 0.25, .ratio = 4.0 / 3.0, .flip = 0.25};
    const int64_t w = 3000, h = 3000;
    double area = 0, square = 0, aspect = 0, aspect2 = 0, x = 0, y = 0, flips = 0;
    for (uint64_t i = 0; i < DRAWS; i++) {
        const bif_view v = bif_augment_view(&augment, 3, i, w, h);
        const double share = (double)(v.w * v.h) / (double)(w * h), a = log((double)v.w / (double)v.h);
        cr_assert(v.x >= 0 && v.y >= 0 && v.w >= 1 && v.h >= 1 && v.x + v.w <= w && v.y + v.h <= h);
        cr_assert(share > 0.2495 && share < 1.0 && fabs(a) < log(4.0 / 3.0) + 1e-3);
        area += share, square += share * share, aspect += a, aspect2 += a * a, flips += v.flip;
        x += v.w < w ? (double)v.x / (double)(w - v.w) : 0.5;
        y += v.h < h ? (double)v.y / (double)(h - v.h) : 0.5;
    }
    /* A box nearly as large as the picture fits only when it is nearly square, else it is drawn again: a million draws by that rule in
     * Python have the means 0.5640, 0.3527 and 0.02480. */
    cr_assert(fabs(area / DRAWS - 0.5640) < 0.005, "mean share %g", area / DRAWS);
    cr_assert(fabs(square / DRAWS - 0.3527) < 0.005, "mean squared share %g", square / DRAWS);
    cr_assert(fabs(aspect / DRAWS) < 0.004 && fabs(aspect2 / DRAWS - 0.02480) < 0.0005, "aspect %g, %g", aspect / DRAWS, aspect2 / DRAWS);
    cr_assert(fabs(x / DRAWS - 0.5) < 0.01 && fabs(y / DRAWS - 0.5) < 0.01, "place %g, %g", x / DRAWS, y / DRAWS);
    cr_assert(fabs(flips / DRAWS - 0.25) < 0.01, "%g flips", flips / DRAWS);
}

/* A panorama, in which no box of the allowed aspect is large enough, is cut in the middle. */
Test(augment, a_narrow_picture_gives_its_largest_centred_box)
{
    const bif_augment augment = {.scale = 0.9, .ratio = 4.0 / 3.0};
    for (uint64_t i = 0; i < 100; i++) {
        const bif_view wide = bif_augment_view(&augment, 1, i, 1000, 30), high = bif_augment_view(&augment, 1, i, 31, 900);
        cr_assert(wide.w == 40 && wide.h == 30 && wide.x == 480 && wide.y == 0);
        cr_assert(high.w == 31 && high.h == 41 && high.x == 0 && high.y == 429);
    }
    const bif_view one = bif_augment_view(&augment, 1, 1, 1, 1);
    cr_assert(one.w == 1 && one.h == 1 && one.x == 0 && one.y == 0);
}

Test(augment, draws_change_with_seed_and_index)
{
    const bif_augment augment = {.scale = 0.3, .ratio = 4.0 / 3.0, .flip = 0.5};
    int same = 0;
    for (uint64_t i = 0; i < 1000; i++) {
        const bif_view a = bif_augment_view(&augment, 1, i, 500, 400), again = bif_augment_view(&augment, 1, i, 500, 400);
        const bif_view seed = bif_augment_view(&augment, 2, i, 500, 400), next = bif_augment_view(&augment, 1, i + 1, 500, 400);
        cr_assert(a.x == again.x && a.y == again.y && a.w == again.w && a.h == again.h && a.flip == again.flip);
        same += (a.x == seed.x && a.w == seed.w) + (a.x == next.x && a.w == next.w);
    }
    cr_assert(same < 10, "%d draws of 2000 are equal", same);
}
