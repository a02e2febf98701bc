#include <stdlib.h>
#include <string.h>

#include "data/image.h"
#include "eval/html.h"

#define QUALITY 82

bif_status bif_html_picture(bif_text_buffer *out, const char *name, const void *bytes, size_t size, int64_t most)
{
    bif_status st = BIF_OK;
    uint8_t *jpeg = NULL;
    size_t jpeg_size = 0;
    bif_image image = {0}, small = {0};
    BIF_TRY(bif_image_decode(name, bytes, size, NULL, &image));
    const int64_t longer = image.width > image.height ? image.width : image.height;
    const int64_t to = longer < most ? longer : most;
    small.width = image.width * to / longer > 0 ? image.width * to / longer : 1;
    small.height = image.height * to / longer > 0 ? image.height * to / longer : 1;
    small.rgb = bif_malloc((size_t)(3 * small.width * small.height));
    bif_resize_bicubic(image.rgb, image.width, image.height, small.rgb, small.width, small.height);
    BIF_TRY(bif_image_encode_jpeg(&small, QUALITY, &jpeg, &jpeg_size));
    bif_html_addf(out, "<img width=\"%lld\" height=\"%lld\" alt=\"", (long long)small.width, (long long)small.height);
    bif_html_text(out, (bif_span){name, strlen(name)}, 200);
    bif_html_add(out, "\" src=\"data:image/jpeg;base64,");
    bif_html_base64(out, jpeg, jpeg_size);
    bif_html_add(out, "\">");
done:
    free(jpeg);
    bif_image_free(&image);
    bif_image_free(&small);
    return st;
}
