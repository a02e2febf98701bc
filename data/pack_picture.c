/* The pictures of a record: found below the root or in a tar, read, checked by their header, and made smaller when that is asked for. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "data/pack_parts.h"

static bif_status open_picture(const bif_pack_place *place, const char *name, int *fd, size_t *size)
{
    if (place->root < 0) {
        return bif_fail(BIF_ERR_DATA, "it names the image '%s', but there is no folder to find it below; name one with --image-root", name);
    }
    return bif_open_beneath(place->root, place->root_name, name, fd, size);
}

static bif_status add_picture(const bif_pack_place *place, const char *name, bif_pack_item *item)
{
    int fd = -1;
    size_t size = 0;
    const bif_status st = open_picture(place, name, &fd, &size);
    if (st != BIF_OK) {
        return st;
    }
    close(fd); /* opened again when it is read: a record may have more pictures than a process files */
    item->picture[item->pictures++] = (bif_pack_picture){.name = bif_strdup(name), .at = -1, .size = size};
    return BIF_OK;
}

bif_status bif_pack_pictures(const bif_pack_place *place, const json_t *record, bif_pack_item *item)
{
    bif_status st = BIF_OK;
    const json_t *image = json_object_get(record, "image"), *name;
    size_t i;
    if (image == NULL || json_is_null(image)) {
        return BIF_OK;
    }
    const size_t count = json_is_array(image) ? json_array_size(image) : 1;
    if (!(json_is_string(image) || json_is_array(image)) || count > BIF_PACK_IMAGES) {
        return bif_fail(BIF_ERR_DATA, "'image' must be a path or a list of at most %d paths", BIF_PACK_IMAGES);
    }
    item->picture = bif_calloc(count, sizeof *item->picture);
    if (json_is_string(image)) {
        return add_picture(place, json_string_value(image), item);
    }
    json_array_foreach(image, i, name) {
        if (!json_is_string(name)) {
            return bif_fail(BIF_ERR_DATA, "'image' must be a path or a list of paths");
        }
        BIF_TRY(add_picture(place, json_string_value(name), item));
    }
done:
    return st;
}

static bif_status read_file(const bif_pack_place *place, bif_pack_picture *picture)
{
    bif_status st = BIF_OK;
    int fd = -1;
    size_t size = 0, used = 0;
    BIF_TRY(open_picture(place, picture->name, &fd, &size));
    while (used < picture->size) {
        size_t got = 0;
        BIF_TRY(bif_read_some(fd, picture->name, (char *)picture->bytes + used, picture->size - used, &got));
        if (got == 0) {
            st = bif_fail(BIF_ERR_DATA, "the image '%s' became shorter while it was read", picture->name);
            goto done;
        }
        used += got;
    }
done:
    if (fd >= 0) {
        close(fd);
    }
    return st;
}

/* Its shorter side becomes `shorter`, the longer one int(shorter * longer / short side), as CLIPImageProcessor has it. */
static bif_status make_smaller(const bif_pack_options *o, bif_pack_picture *picture)
{
    bif_status st = BIF_OK;
    bif_image image = {0}, small = {0};
    uint8_t *jpeg = NULL;
    size_t size = 0;
    int64_t bytes = 0;
    BIF_TRY(bif_image_decode(picture->name, picture->bytes, picture->size, &o->image_limits, &image));
    const int64_t s = o->resize_short, w = image.width, h = image.height; /* sides are at most 65,535 or max_side: no product overflows */
    small.width = w <= h ? s : s * w / h;
    small.height = w <= h ? s * h / w : s;
    if (!bif_mul_i64(small.width, small.height, &bytes) || !bif_mul_i64(bytes, 3, &bytes)) {
        st = bif_fail(BIF_ERR_DATA, "the image '%s' has the size %lld x %lld", picture->name, (long long)w, (long long)h);
        goto done;
    }
    small.rgb = bif_malloc((size_t)bytes); /* fewer than the decoded picture has */
    bif_resize_bicubic(image.rgb, w, h, small.rgb, small.width, small.height);
    st = bif_image_encode_jpeg(&small, o->quality, &jpeg, &size);
    if (st != BIF_OK) {
        st = bif_fail_context(st, "the image '%s'", picture->name);
        goto done;
    }
    free(picture->bytes);
    picture->bytes = jpeg;
    picture->size = size;
    picture->format = BIF_IMAGE_JPEG;
    picture->width = small.width;
    picture->height = small.height;
    picture->resized = true;
done:
    bif_image_free(&image);
    free(small.rgb);
    return st;
}

static bif_status load_one(const bif_pack_place *place, bif_pack_picture *picture)
{
    bif_status st = BIF_OK;
    const bif_pack_options *o = place->options;
    picture->bytes = bif_malloc(picture->size);
    BIF_TRY(picture->at >= 0 ? bif_tar_read(place->tar, (uint64_t)picture->at, picture->bytes, picture->size) : read_file(place, picture));
    BIF_TRY(bif_image_probe(picture->name, picture->bytes, picture->size, &o->image_limits, &picture->format, &picture->width,
                            &picture->height));
    if (picture->width < 1 || picture->height < 1 || picture->width > UINT32_MAX || picture->height > UINT32_MAX) {
        st = bif_fail(BIF_ERR_DATA, "the image '%s' has the size %lld x %lld", picture->name, (long long)picture->width,
                      (long long)picture->height);
        goto done;
    }
    if (o->resize_short > 0 && picture->width > o->resize_short && picture->height > o->resize_short) {
        BIF_TRY(make_smaller(o, picture));
    }
done:
    return st;
}

bif_status bif_pack_check_sizes(const bif_pack_options *options, const bif_pack_item *item)
{
    uint64_t total = 0;
    for (int64_t i = 0; i < item->pictures; i++) {
        const bif_pack_picture *picture = &item->picture[i];
        total += picture->size;
        if (picture->size == 0 || picture->size > (uint64_t)options->max_image_bytes || total > (uint64_t)options->max_shard_bytes) {
            return bif_fail(BIF_ERR_DATA, "the image '%s' has %llu bytes; 1 to %lld are taken, and %lld in one record", picture->name,
                            (unsigned long long)picture->size, (long long)options->max_image_bytes, (long long)options->max_shard_bytes);
        }
    }
    return BIF_OK;
}

bif_status bif_pack_load(const bif_pack_place *place, bif_pack_item *item)
{
    bif_status st = BIF_OK;
    for (int64_t i = 0; i < item->pictures && st == BIF_OK; i++) {
        st = load_one(place, &item->picture[i]);
    }
    return st;
}

bif_status bif_pack_place_open(const bif_pack_plan *plan, bif_pack_place *place)
{
    const bif_pack_options *o = plan->options;
    *place = (bif_pack_place){.options = o, .root = -1, .root_name = plan->kind == BIF_PACK_FOLDER ? o->input : o->image_root};
    if (plan->kind == BIF_PACK_WEBDATASET || place->root_name == NULL) {
        return BIF_OK;
    }
    place->root = open(place->root_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return place->root >= 0 ? BIF_OK : bif_fail_errno(errno, "cannot open the image root '%s'", place->root_name);
}

void bif_pack_place_close(bif_pack_place *place)
{
    if (place->root >= 0) {
        close(place->root);
    }
    place->root = -1;
}
