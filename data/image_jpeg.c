/* jpeglib.h needs size_t and FILE declared before it. */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jerror.h>
#include <jpeglib.h>

#include "data/image_codec.h"

/* A progressive file may repeat scans without end, each as dear as a whole picture; encoders write about ten. */
#define SCANS_MAX 200

/* All state that must survive longjmp lives here, never in a local variable. */
typedef struct {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf jump;
    char message[JMSG_LENGTH_MAX + 64];
    uint8_t *rgb, *row;
} reader;

static void fail(j_common_ptr any)
{
    reader *r = any->client_data;
    if (r->message[0] == '\0') {
        any->err->format_message(any, r->message);
    }
    longjmp(r->jump, 1);
}

/* level < 0 is a warning: libjpeg would go on with grey or smeared blocks, so it is the end here. Three kinds cost no
 * pixel: stray bytes between segments (common in cameras' files), and odd version numbers in the JFIF or Adobe header.
 */
static void on_message(j_common_ptr any, int level)
{
    int code = any->err->msg_code;
    if (level < 0 && code != JWRN_EXTRANEOUS_DATA && code != JWRN_ADOBE_XFORM && code != JWRN_JFIF_MAJOR) {
        fail(any);
    }
}

static void be_quiet(j_common_ptr any)
{
    (void)any;
}

static void on_progress(j_common_ptr any)
{
    reader *r = any->client_data;
    if (r->jpeg.input_scan_number > SCANS_MAX) {
        snprintf(r->message, sizeof r->message, "more than %d scans", SCANS_MAX);
        fail(any);
    }
}

static bool starts_with(const struct jpeg_marker_struct *marker, const char *text, size_t size)
{
    return marker->data_length >= size && memcmp(marker->data, text, size) == 0;
}

static int orientation(const struct jpeg_decompress_struct *jpeg)
{
    static const char xmp_name[] = "http://ns.adobe.com/xap/1.0/"; /* its '\0' belongs to it */
    const struct jpeg_marker_struct *exif = NULL, *xmp = NULL;
    for (const struct jpeg_marker_struct *m = jpeg->marker_list; m != NULL; m = m->next) {
        if (exif == NULL && starts_with(m, "Exif\0\0", 6)) {
            exif = m;
        } else if (starts_with(m, xmp_name, sizeof xmp_name)) {
            xmp = m; /* the last one counts, as in Pillow */
        }
    }
    return bif_orientation(exif != NULL ? exif->data : NULL, exif != NULL ? exif->data_length : 0,
                           xmp != NULL ? xmp->data + sizeof xmp_name : NULL,
                           xmp != NULL ? xmp->data_length - sizeof xmp_name : 0);
}

/* Pillow reads every CMYK file as Adobe writes it, inverted, and multiplies without a profile: R = K' - (255 - C') * K'
 * / 255 with C' and K' as stored, the quotient rounded by shifts. */
static void cmyk_to_rgb(const uint8_t *cmyk, uint8_t *rgb, int64_t width)
{
    for (int64_t i = 0; i < width; i++, cmyk += 4, rgb += 3) {
        int light = cmyk[3];
        for (int c = 0; c < 3; c++) {
            int product = (255 - cmyk[c]) * light + 128;
            rgb[c] = (uint8_t)(light - ((product + (product >> 8)) >> 8));
        }
    }
}

static bool read_head(reader *r, const uint8_t *bytes, size_t size)
{
    if (setjmp(r->jump) != 0) {
        return false;
    }
    jpeg_create_decompress(&r->jpeg);
    r->jpeg.progress = &r->progress;
    jpeg_mem_src(&r->jpeg, bytes, (unsigned long)size);
    jpeg_save_markers(&r->jpeg, JPEG_APP0 + 1, 0xffff);
    jpeg_read_header(&r->jpeg, TRUE);
    return true;
}

static bool read_pixels(reader *r)
{
    if (setjmp(r->jump) != 0) {
        return false;
    }
    bool cmyk = r->jpeg.num_components == 4;
    r->jpeg.out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
    r->jpeg.dct_method = JDCT_ISLOW;
    r->jpeg.do_fancy_upsampling = TRUE;
    jpeg_start_decompress(&r->jpeg);
    size_t width = r->jpeg.output_width;
    if (cmyk) {
        r->row = bif_malloc(width * 4);
    }
    while (r->jpeg.output_scanline < r->jpeg.output_height) {
        uint8_t *to = r->rgb + (size_t)r->jpeg.output_scanline * width * 3;
        uint8_t *line = cmyk ? r->row : to;
        jpeg_read_scanlines(&r->jpeg, &line, 1);
        if (cmyk) {
            cmyk_to_rgb(r->row, to, (int64_t)width);
        }
    }
    jpeg_finish_decompress(&r->jpeg);
    return true;
}

bif_status bif_jpeg_read(const char *what, const uint8_t *bytes, size_t size, const bif_image_limits *limits,
                         bif_image_head *head, uint8_t **rgb)
{
    bif_status st = BIF_OK;
    reader *r = bif_calloc(1, sizeof *r);
    r->jpeg.err = jpeg_std_error(&r->errors);
    r->jpeg.client_data = r;
    r->errors.error_exit = fail;
    r->errors.emit_message = on_message;
    r->errors.output_message = be_quiet;
    r->progress.progress_monitor = on_progress;
    if (!read_head(r, bytes, size)) {
        st = bif_fail(BIF_ERR_DATA, "%s: broken JPEG: %s", what, r->message);
        goto done;
    }
    *head = (bif_image_head){ r->jpeg.image_width, r->jpeg.image_height, orientation(&r->jpeg), r->jpeg.num_components == 1 };
    BIF_TRY(bif_image_check(what, head->width, head->height, limits));
    int parts = r->jpeg.num_components;
    if (parts != 1 && parts != 3 && parts != 4) {
        st = bif_fail(BIF_ERR_DATA, "%s: a JPEG of %d colour components is not read (1, 3 or 4 are)", what, parts);
        goto done;
    }
    if (rgb != NULL) {
        r->rgb = bif_malloc((size_t)head->width * (size_t)head->height * 3);
        if (!read_pixels(r)) {
            st = bif_fail(BIF_ERR_DATA, "%s: broken JPEG: %s", what, r->message);
            goto done;
        }
        *rgb = r->rgb;
        r->rgb = NULL;
    }
done:
    jpeg_destroy_decompress(&r->jpeg);
    free(r->rgb);
    free(r->row);
    free(r);
    return st;
}
