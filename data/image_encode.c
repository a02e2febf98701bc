/* jpeglib.h needs size_t and FILE declared before it. */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#include <jpeglib.h>

#include "data/image.h"

/* What must survive longjmp. */
typedef struct {
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    jmp_buf jump;
    char message[JMSG_LENGTH_MAX];
    unsigned char *bytes;
    unsigned long size;
} writer;

static void fail(j_common_ptr any)
{
    writer *w = any->client_data;
    any->err->format_message(any, w->message);
    longjmp(w->jump, 1);
}

static void be_quiet(j_common_ptr any)
{
    (void)any;
}

bif_status bif_image_encode_jpeg(const bif_image *image, int quality, uint8_t **out, size_t *size)
{
    *out = NULL;
    *size = 0;
    if (image->width < 1 || image->height < 1 || image->width > JPEG_MAX_DIMENSION || image->height > JPEG_MAX_DIMENSION) {
        return bif_fail(BIF_ERR_DATA, "a picture of %lld x %lld cannot be written as JPEG", (long long)image->width,
                        (long long)image->height);
    }
    writer *w = bif_calloc(1, sizeof *w);
    w->jpeg.err = jpeg_std_error(&w->errors);
    w->errors.error_exit = fail;
    w->errors.output_message = be_quiet;
    w->jpeg.client_data = w;
    if (setjmp(w->jump) != 0) {
        const bif_status st = bif_fail(BIF_ERR_MEMORY, "a picture could not be written as JPEG: %s", w->message);
        jpeg_destroy_compress(&w->jpeg);
        free(w->bytes);
        free(w);
        return st;
    }
    jpeg_create_compress(&w->jpeg);
    jpeg_mem_dest(&w->jpeg, &w->bytes, &w->size);
    w->jpeg.image_width = (JDIMENSION)image->width;
    w->jpeg.image_height = (JDIMENSION)image->height;
    w->jpeg.input_components = 3;
    w->jpeg.in_color_space = JCS_RGB;
    jpeg_set_defaults(&w->jpeg);
    jpeg_set_quality(&w->jpeg, quality, TRUE);
    jpeg_start_compress(&w->jpeg, TRUE);
    while (w->jpeg.next_scanline < w->jpeg.image_height) {
        JSAMPROW row = image->rgb + (size_t)w->jpeg.next_scanline * (size_t)image->width * 3;
        jpeg_write_scanlines(&w->jpeg, &row, 1);
    }
    jpeg_finish_compress(&w->jpeg);
    *out = w->bytes;
    *size = (size_t)w->size;
    jpeg_destroy_compress(&w->jpeg);
    free(w);
    return BIF_OK;
}
