// bif_preprocess_* against Pillow and CLIPImageProcessor (tests/golden/images/preprocess.txt).
#include <criterion/criterion.h>
#include <string.h>

#include "data/image.h"
#include "pictures.h"

static void check(const bif_image *image, const char *what, const char *fit, int64_t side, unsigned expected_u8, unsigned expected_f32)
{
    bif_preprocess p = bif_preprocess_clip(side);
    p.fit = strcmp(fit, "crop") == 0 ? BIF_FIT_CROP : strcmp(fit, "pad") == 0 ? BIF_FIT_PAD : BIF_FIT_SQUASH;
    size_t n = (size_t)(side * side * 3);
    uint8_t *u8 = bif_malloc(n);
    float *f32 = bif_malloc(n * sizeof *f32), table[3 * 256];
    cr_assert(bif_preprocess_run(&p, image, u8) == BIF_OK);
    cr_assert(bif_preprocess_table(&p, table) == BIF_OK);
    for (size_t k = 0; k < n; k++) { /* [S, S, 3] to [3, S, S] */
        f32[k % 3 * (n / 3) + k / 3] = table[k % 3 * 256 + u8[k]];
    }
    cr_expect(picture_crc(u8, n) == expected_u8, "u8 of %s %s to %lld", fit, what, (long long)side);
    cr_expect(picture_crc(f32, n * sizeof *f32) == expected_f32, "f32 of %s %s to %lld", fit, what, (long long)side);
    free(u8);
    free(f32);
}

Test(preprocess, equals_clip_image_processor)
{
    FILE *list = picture_list("preprocess.txt");
    cr_assert(list != NULL);
    char fit[16], what[48];
    long long w, h, s;
    unsigned expected_u8, expected_f32;
    int count = 0;
    while (fscanf(list, "%15s %lld %lld %lld %x %x", fit, &w, &h, &s, &expected_u8, &expected_f32) == 6) {
        bif_image image = { .rgb = picture_pattern(w, h), .width = w, .height = h };
        snprintf(what, sizeof what, "%lldx%lld", w, h);
        check(&image, what, fit, s, expected_u8, expected_f32);
        bif_image_free(&image);
        count++;
    }
    fclose(list);
    cr_assert(count == 87);
}

// From the file to the encoder's input: every kind of file, all three ways to fit it.
Test(preprocess, files_equal_pillow_and_clip_image_processor)
{
    FILE *list = picture_list("files.txt");
    cr_assert(list != NULL);
    const bif_image_limits limits = {0};
    char fit[16], name[64];
    long long s;
    unsigned expected_u8, expected_f32;
    int count = 0;
    while (fscanf(list, "%15s %63s %lld %x %x", fit, name, &s, &expected_u8, &expected_f32) == 5) {
        size_t size = 0;
        bif_image image = {0};
        char *path = picture_path(name), *bytes = NULL;
        cr_assert(bif_file_read(path, 1 << 20, &bytes, &size) == BIF_OK);
        cr_assert(bif_image_decode(name, bytes, size, &limits, &image) == BIF_OK, "%s", bif_error_message());
        check(&image, name, fit, s, expected_u8, expected_f32);
        bif_image_free(&image);
        free(bytes);
        free(path);
        count++;
    }
    fclose(list);
    cr_assert(count == 237, "%d", count);
}

Test(preprocess, extreme_shapes_cost_little)
{
    // As whole pictures: a result of 22 million columns (crop) and a canvas of 4 billion pixels (pad).
    int64_t shapes[2][2] = { { 65535, 1 }, { 1, 65535 } };
    uint8_t *out = bif_malloc(3 * 336 * 336);
    for (int i = 0; i < 2; i++) {
        bif_image image = { .rgb = picture_pattern(shapes[i][0], shapes[i][1]),
                            .width = shapes[i][0],
                            .height = shapes[i][1] };
        for (int fit = BIF_FIT_CROP; fit <= BIF_FIT_SQUASH; fit++) {
            bif_preprocess p = bif_preprocess_clip(336);
            p.fit = (bif_fit)fit;
            cr_expect(bif_preprocess_run(&p, &image, out) == BIF_OK);
        }
        bif_image_free(&image);
    }
    free(out);
}

Test(preprocess, refuses_wrong_settings)
{
    uint8_t pixel[3] = { 1, 2, 3 };
    bif_image image = { .rgb = pixel, .width = 1, .height = 1 }, empty = { 0 };
    uint8_t out[3];
    float table[3 * 256];
    bif_preprocess p = bif_preprocess_clip(1);
    cr_expect(bif_preprocess_run(&p, &image, out) == BIF_OK);
    cr_expect(bif_preprocess_run(&p, &empty, out) == BIF_ERR_DATA);
    p.size = 0;
    cr_expect(bif_preprocess_run(&p, &image, out) == BIF_ERR_CONFIG);
    p.size = 100000;
    cr_expect(bif_preprocess_run(&p, &image, out) == BIF_ERR_CONFIG);
    p = bif_preprocess_clip(1);
    p.std[1] = 0.0f;
    cr_expect(bif_preprocess_table(&p, table) == BIF_ERR_CONFIG);
    p = bif_preprocess_clip(1);
    p.fit = (bif_fit)7;
    cr_expect(bif_preprocess_run(&p, &image, out) == BIF_ERR_CONFIG);
}

Test(preprocess, a_blank_picture_has_the_mean_colour)
{
    const bif_preprocess p = bif_preprocess_clip(3);
    uint8_t out[2 * 27 + 1];
    float table[3 * 256];
    memset(out, 77, sizeof out);
    bif_preprocess_blank(&p, 2, out);
    cr_assert(bif_preprocess_table(&p, table) == BIF_OK);
    for (int i = 0; i < 2 * 27; i++) {
        const float value = table[i % 3 * 256 + out[i]];
        cr_expect(value > -0.004f && value < 0.004f, "byte %d is %d, %g", i, out[i], (double)value);
    }
    cr_expect(out[2 * 27] == 77);
}
