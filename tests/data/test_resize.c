// bif_resize_bicubic against Pillow (tests/golden/images/resize.txt), and windows and canvases against the whole.
#include <criterion/criterion.h>
#include <string.h>

#include "data/image.h"
#include "data/resize.h"
#include "pictures.h"

Test(resize, equals_pillow)
{
    FILE *list = picture_list("resize.txt");
    cr_assert(list != NULL);
    long long w, h, ow, oh;
    unsigned expected;
    int count = 0;
    while (fscanf(list, "%lld %lld %lld %lld %x", &w, &h, &ow, &oh, &expected) == 5) {
        uint8_t *rgb = picture_pattern(w, h);
        size_t size = (size_t)(ow * oh * 3);
        uint8_t *out = bif_malloc(size + 64);
        memset(out + size, 0xa5, 64);
        bif_resize_bicubic(rgb, w, h, out, ow, oh);
        cr_expect(picture_crc(out, size) == expected, "%lldx%lld to %lldx%lld", w, h, ow, oh);
        for (int i = 0; i < 64; i++) {
            cr_assert(out[size + (size_t)i] == 0xa5, "%lldx%lld to %lldx%lld writes past its end", w, h, ow, oh);
        }
        free(rgb);
        free(out);
        count++;
    }
    fclose(list);
    cr_assert(count >= 100);
}

Test(resize, a_plain_colour_stays)
{
    uint8_t rgb[20 * 30 * 3], out[41 * 11 * 3];
    memset(rgb, 201, sizeof rgb);
    bif_resize_bicubic(rgb, 20, 30, out, 41, 11);
    for (size_t i = 0; i < sizeof out; i++) {
        cr_assert(out[i] == 201);
    }
}

// The pasted canvas, resized as a whole, then cut: what the window must be without any of that.
static void check_window(bif_resize_job job)
{
    uint8_t *canvas = bif_malloc((size_t)(job.canvas_width * job.canvas_height * 3));
    for (int64_t i = 0; i < job.canvas_width * job.canvas_height * 3; i++) {
        canvas[i] = job.fill[i % 3];
    }
    for (int64_t y = 0; y < job.height; y++) {
        memcpy(canvas + ((job.off_y + y) * job.canvas_width + job.off_x) * 3, job.rgb + y * job.width * 3,
               (size_t)job.width * 3);
    }
    uint8_t *whole = bif_malloc((size_t)(job.out_width * job.out_height * 3));
    bif_resize_bicubic(canvas, job.canvas_width, job.canvas_height, whole, job.out_width, job.out_height);
    uint8_t *out = bif_malloc((size_t)(job.w * job.h * 3));
    bif_resize_window(&job, out);
    for (int64_t y = 0; y < job.h; y++) {
        cr_assert(memcmp(out + y * job.w * 3, whole + ((job.y + y) * job.out_width + job.x) * 3, (size_t)job.w * 3) ==
                      0,
                  "row %lld of the window differs (%lldx%lld on %lldx%lld to %lldx%lld)", (long long)y,
                  (long long)job.width, (long long)job.height, (long long)job.canvas_width,
                  (long long)job.canvas_height, (long long)job.out_width, (long long)job.out_height);
    }
    free(canvas);
    free(whole);
    free(out);
}

Test(resize, windows_and_canvases_equal_the_long_way)
{
    srand(5);
    for (int i = 0; i < 400; i++) {
        int64_t w = 1 + rand() % 50, h = 1 + rand() % 120;
        uint8_t *rgb = picture_pattern(w, h);
        bif_resize_job job = { .rgb = rgb, .width = w, .height = h, .fill = { 122, 116, 104 } };
        bool padded = i % 2 == 0;
        job.canvas_width = w + (padded ? rand() % 60 : 0);
        job.canvas_height = h + (padded ? rand() % 60 : 0);
        job.off_x = rand() % (job.canvas_width - w + 1);
        job.off_y = rand() % (job.canvas_height - h + 1);
        job.out_width = i % 5 == 0 ? job.canvas_width : 1 + rand() % 70;
        job.out_height = i % 7 == 0 ? job.canvas_height : 1 + rand() % 70;
        job.x = rand() % job.out_width;
        job.y = rand() % job.out_height;
        job.w = 1 + rand() % (job.out_width - job.x);
        job.h = 1 + rand() % (job.out_height - job.y);
        check_window(job);
        free(rgb);
    }
}
