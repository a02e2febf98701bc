/* libFuzzer: any bytes as a tar, its members grouped into samples and their texts read. The mutator puts checksums right. */
#include "data/pack_parts.h"
#include "fuzz.h"

/* The checksum of every block that looks like a header (or of every one, in turn with none). */
static void seal(uint8_t *data, size_t size, bool all)
{
    for (size_t at = 0; at + 512 <= size; at += 512) {
        uint8_t *block = data + at;
        if (all || memcmp(block + 257, "ustar", 5) == 0) {
            unsigned sum = 0;
            char text[16];
            memset(block + 148, ' ', 8);
            for (int i = 0; i < 512; i++) {
                sum += block[i];
            }
            snprintf(text, sizeof text, "%06o", sum);
            memcpy(block + 148, text, 7);
        }
    }
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned int seed)
{
    size = LLVMFuzzerMutate(data, size, most);
    if (seed % 8 > 0) {
        seal(data, size, seed % 8 == 1);
    }
    return size;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *path = fuzz_file(data, size);
    bif_pack_options options = bif_pack_defaults();
    bif_tar *tar = NULL;
    bif_tar_member one = {0};
    bif_status st = BIF_OK;
    uint64_t last = 0;
    options.image_only = size % 2 == 0;
    BIF_BUG_IF(bif_tar_open(path, &tar) != BIF_OK, "%s", bif_error_message());
    for (bool more = true; (st = bif_tar_next(tar, &one, &more)) == BIF_OK && more;) {
        BIF_BUG_IF(one.at % 512 != 0 || one.at <= last || one.at > size || one.size > size - one.at, "a member outside the file");
        last = one.at;
    }
    if (st != BIF_OK) {
        fuzz_named(path);
    }
    bif_tar_close(tar);
    BIF_BUG_IF(bif_tar_open(path, &tar) != BIF_OK, "%s", bif_error_message());
    bif_pack_groups *groups = bif_pack_groups_open(tar, &options);
    for (bool more = true; more;) {
        bif_pack_item item;
        BIF_BUG_IF(bif_pack_groups_next(groups, &item, &more) != BIF_OK, "%s", bif_error_message());
        BIF_BUG_IF(more && item.failed == BIF_OK && (item.text == NULL || item.id == NULL || item.pictures > 1),
                   "an item without its parts");
        BIF_BUG_IF(item.failed != BIF_OK && (item.reason == NULL || item.reason[0] == '\0'), "a bad item without a reason");
        bif_pack_item_free(&item);
    }
    bif_pack_groups_close(groups);
    bif_tar_close(tar);
    return 0;
}
