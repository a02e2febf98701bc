#include <stdlib.h>
#include <string.h>

#include <webp/decode.h>
#include <webp/demux.h>

#include "data/image_codec.h"

static const char *reason(VP8StatusCode code)
{
    switch (code) {
    case VP8_STATUS_OUT_OF_MEMORY:
        return "out of memory";
    case VP8_STATUS_BITSTREAM_ERROR:
        return "bitstream error";
    case VP8_STATUS_UNSUPPORTED_FEATURE:
        return "unsupported feature";
    case VP8_STATUS_SUSPENDED:
    case VP8_STATUS_NOT_ENOUGH_DATA:
        return "the file ends early";
    default:
        return "invalid parameter";
    }
}

static bool get_chunk(const WebPDemuxer *demux, const char *name, WebPChunkIterator *chunk)
{
    memset(chunk, 0, sizeof *chunk);
    return WebPDemuxGetChunk(demux, name, 1, chunk) != 0;
}

static int orientation(const WebPDemuxer *demux)
{
    WebPChunkIterator exif, xmp;
    bool has_exif = get_chunk(demux, "EXIF", &exif), has_xmp = get_chunk(demux, "XMP ", &xmp);
    int result = bif_orientation(has_exif ? exif.chunk.bytes : NULL, exif.chunk.size, has_xmp ? xmp.chunk.bytes : NULL,
                                 xmp.chunk.size);
    WebPDemuxReleaseChunkIterator(&exif);
    WebPDemuxReleaseChunkIterator(&xmp);
    return result;
}

/* The first frame onto a black canvas (of a still picture: the picture), as Pillow's decoder shows it. */
static bif_status read_pixels(const char *what, const WebPDemuxer *demux, const bif_image_head *head, uint8_t *rgb)
{
    bif_status st = BIF_OK;
    WebPIterator frame = { 0 };
    WebPDecoderConfig config;
    if (!WebPInitDecoderConfig(&config) || !WebPDemuxGetFrame(demux, 1, &frame)) {
        st = bif_fail(BIF_ERR_DATA, "%s: broken WebP: no picture in it", what);
        goto done;
    }
    if (frame.x_offset < 0 || frame.y_offset < 0 || frame.width < 1 || frame.height < 1 ||
        frame.x_offset + frame.width > head->width || frame.y_offset + frame.height > head->height) {
        st = bif_fail(BIF_ERR_DATA, "%s: broken WebP: the first frame leaves the canvas", what);
        goto done;
    }
    VP8StatusCode code = WebPGetFeatures(frame.fragment.bytes, frame.fragment.size, &config.input);
    if (code != VP8_STATUS_OK || config.input.width != frame.width || config.input.height != frame.height) {
        st = bif_fail(BIF_ERR_DATA, "%s: broken WebP: %s", what,
                      code != VP8_STATUS_OK ? reason(code) : "sizes contradict each other");
        goto done;
    }
    size_t stride = (size_t)head->width * 3, offset = (size_t)frame.y_offset * stride + (size_t)frame.x_offset * 3;
    if (frame.width != head->width || frame.height != head->height) {
        memset(rgb, 0, stride * (size_t)head->height);
    }
    config.output.colorspace = MODE_RGB;
    config.output.is_external_memory = 1;
    config.output.u.RGBA.rgba = rgb + offset;
    config.output.u.RGBA.stride = (int)stride;
    config.output.u.RGBA.size = stride * (size_t)head->height - offset;
    code = WebPDecode(frame.fragment.bytes, frame.fragment.size, &config);
    if (code != VP8_STATUS_OK) {
        st = bif_fail(BIF_ERR_DATA, "%s: broken WebP: %s", what, reason(code));
    }
    WebPFreeDecBuffer(&config.output);
done:
    WebPDemuxReleaseIterator(&frame);
    return st;
}

bif_status bif_webp_read(const char *what, const uint8_t *bytes, size_t size, const bif_image_limits *limits,
                         bif_image_head *head, uint8_t **rgb)
{
    bif_status st = BIF_OK;
    uint8_t *pixels = NULL;
    WebPData data = { bytes, size };
    WebPDemuxer *demux = WebPDemux(&data); /* NULL also for a file cut short */
    if (demux == NULL) {
        st = bif_fail(BIF_ERR_DATA, "%s: broken WebP: the container is damaged or ends early", what);
        goto done;
    }
    *head = (bif_image_head){ WebPDemuxGetI(demux, WEBP_FF_CANVAS_WIDTH), WebPDemuxGetI(demux, WEBP_FF_CANVAS_HEIGHT),
                              orientation(demux), false };
    BIF_TRY(bif_image_check(what, head->width, head->height, limits));
    if (rgb != NULL) {
        pixels = bif_malloc((size_t)head->width * (size_t)head->height * 3);
        BIF_TRY(read_pixels(what, demux, head, pixels));
        *rgb = pixels;
        pixels = NULL;
    }
done:
    WebPDemuxDelete(demux);
    free(pixels);
    return st;
}
