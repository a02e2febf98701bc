// data/hash_image.h and data/hash_pdq.h against the Python packages and the C++ reference (tests/golden/hashes/values.txt).
#include <criterion/criterion.h>
#include <inttypes.h>
#include <string.h>

#include "data/hash_run.h"
#include "pictures.h"

static char *golden_path(const char *name)
{
    const char *tests = getenv("BIFOCAL_TESTS");
    return bif_format("%s/golden/%s", tests != NULL ? tests : "tests", name);
}

static void load(const char *name, char **bytes, size_t *size)
{
    char *path = golden_path(name);
    cr_assert(bif_file_read(path, 1 << 24, bytes, size) == BIF_OK, "%s", bif_error_message());
    free(path);
}

Test(hash, equals_the_packages_and_the_reference)
{
    char *path = golden_path("hashes/values.txt"), line[1024], name[128], pdq[80], quality[8], forms[16];
    FILE *list = fopen(path, "r");
    free(path);
    cr_assert(list != NULL);
    bif_resize_memo *memo = bif_resize_memo_new(); // over all pictures: what is remembered must fit only its own sizes
    int count = 0, pdqs = 0, dihedral = 0;
    while (fgets(line, sizeof line, list) != NULL) {
        long long width, height;
        uint64_t want[8];
        if (line[0] == '#') {
            continue;
        }
        cr_assert(sscanf(line,
                         "%127s %lld %lld %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64
                         " %79s %7s %15s",
                         name, &width, &height, &want[0], &want[1], &want[2], &want[3], &want[4], &want[5], &want[6], &want[7], pdq,
                         quality, forms) == 14, "%s", line);
        char *bytes = NULL;
        size_t size = 0;
        bif_hashes h;
        load(name, &bytes, &size);
        cr_assert(bif_hash_picture(name, bytes, size, NULL, BIF_HASH_OF_IMAGES, memo, &h) == BIF_OK, "%s", bif_error_message());
        free(bytes);
        cr_expect(h.width == width && h.height == height, "%s: size", name);
        for (int k = 0; k < 4; k++) {
            cr_expect(h.imagehash[k] == want[k], "%s: imagehash %d is %016" PRIx64 ", not %016" PRIx64, name, k, h.imagehash[k], want[k]);
            cr_expect(h.imagededup[k] == want[4 + k], "%s: imagededup %d is %016" PRIx64 ", not %016" PRIx64, name, k, h.imagededup[k],
                      want[4 + k]);
        }
        if (pdq[0] != '-') {
            char hex[BIF_PDQ_BYTES * 2 + 1];
            for (int i = 0; i < BIF_PDQ_BYTES; i++) {
                snprintf(hex + i * 2, 3, "%02x", h.pdq.form[0][i]);
            }
            cr_expect(strcmp(hex, pdq) == 0 && h.pdq.quality == atoi(quality), "%s: PDQ is %s, %d, not %s, %s", name, hex, h.pdq.quality,
                      pdq, quality);
            pdqs++;
        }
        if (forms[0] != '-') {
            const uint32_t crc = (uint32_t)strtoul(forms, NULL, 16);
            cr_expect(picture_crc(h.pdq.form, sizeof h.pdq.form) == crc, "%s: the forms of PDQ differ", name);
            dihedral++;
        }
        count++;
    }
    fclose(list);
    bif_resize_memo_free(memo);
    cr_assert(count >= 90 && pdqs >= 35 && dihedral >= 25, "%d, %d, %d", count, pdqs, dihedral);
}

// One plane of a picture: only the columns that are asked for are computed, and they are the same alone.
Test(hash, a_part_is_as_the_whole)
{
    char *bytes = NULL;
    size_t size = 0;
    bif_hashes all, one;
    load("images/jpeg_exif6.jpg", &bytes, &size);
    cr_assert(bif_hash_picture("x", bytes, size, NULL, BIF_HASH_OF_IMAGES, NULL, &all) == BIF_OK);
    for (int c = 0; c < BIF_HASH_CAPTION; c++) {
        cr_assert(bif_hash_picture("x", bytes, size, NULL, (bif_hash_set)1 << c, NULL, &one) == BIF_OK);
        bif_hashes expected = {.width = all.width, .height = all.height};
        if (c == BIF_HASH_PIXELS) {
            memcpy(expected.pixels, all.pixels, sizeof all.pixels);
        } else if (c < BIF_HASH_IMAGEDEDUP) {
            expected.imagehash[c - BIF_HASH_IMAGEHASH] = all.imagehash[c - BIF_HASH_IMAGEHASH];
        } else if (c < BIF_HASH_PDQ) {
            expected.imagededup[c - BIF_HASH_IMAGEDEDUP] = all.imagededup[c - BIF_HASH_IMAGEDEDUP];
        } else if (c < BIF_HASH_MEAN_STD) {
            expected.pdq.quality = all.pdq.quality;
            memcpy(expected.pdq.form, all.pdq.form, c == BIF_HASH_PDQ_DIHEDRAL ? sizeof all.pdq.form : BIF_PDQ_BYTES);
        } else {
            memcpy(expected.mean_std, all.mean_std, sizeof all.mean_std);
        }
        cr_expect(memcmp(&one, &expected, sizeof one) == 0, "%s", bif_hash_column(c).name);
    }
    free(bytes);
}

// Hashes are of the pixels as stored, the digest of pixels is of the picture upright.
Test(hash, orientation)
{
    char *bytes = NULL;
    size_t size = 0;
    bif_hashes h;
    bif_image upright;
    uint64_t digest[2];
    load("images/jpeg_exif6.jpg", &bytes, &size);
    cr_assert(bif_hash_picture("x", bytes, size, NULL, BIF_HASH_OF_IMAGES, NULL, &h) == BIF_OK);
    cr_assert(bif_image_decode("x", bytes, size, NULL, &upright) == BIF_OK);
    cr_expect(h.width == upright.height && h.height == upright.width && h.width != h.height);
    bif_hash_pixels(upright.rgb, upright.width, upright.height, digest);
    cr_expect(memcmp(digest, h.pixels, sizeof digest) == 0);
    bif_hash_pixels(upright.rgb, upright.height, upright.width, digest);
    cr_expect(memcmp(digest, h.pixels, sizeof digest) != 0, "the size belongs to the digest");
    bif_image_free(&upright);
    free(bytes);
}

Test(hash, mean_and_deviation)
{
    float out[2];
    bif_hash_mean_std((const uint8_t[]){7, 7, 7, 7}, 4, out);
    cr_expect(out[0] == 7.0f && out[1] == 0.0f);
    bif_hash_mean_std((const uint8_t[]){0, 255, 0, 255}, 4, out);
    cr_expect(out[0] == 127.5f && out[1] == 127.5f);
}

// The wavelet of a block does not depend on which other blocks are asked for.
Test(hash, blocks_of_the_wavelet)
{
    uint8_t grey[64 * 64];
    double all[64], some[64];
    bool want[64];
    for (size_t i = 0; i < sizeof grey; i++) {
        grey[i] = (uint8_t)((i * 2654435761u) >> 13);
    }
    for (int without = 0; without < 2; without++) {
        bif_hash_haar(grey, 64, without, NULL, all);
        double sum = 0;
        for (int i = 0; i < 64; i++) {
            want[i] = i % 3 == 0;
            sum += all[i];
        }
        cr_expect(without == 1 ? sum < 1e-9 && sum > -1e-9 : sum > 1.0, "the mean is taken out, or not: %g", sum);
        bif_hash_haar(grey, 64, without, want, some);
        for (int i = 0; i < 64; i += 3) {
            cr_expect(all[i] == some[i]);
        }
    }
}

Test(hash, what_is_no_picture)
{
    bif_hashes h;
    cr_expect(bif_hash_picture("x", "\xff\xd8\xff\xe0 cut", 8, NULL, BIF_HASH_OF_IMAGES, NULL, &h) == BIF_ERR_DATA);
    cr_expect(h.width == 0 && h.pdq.quality == 0);
}

/* What the shard's table says of a picture's size may be wrong; it stops nothing. */
Test(hash, sizes_that_are_not_true)
{
    char folder[] = "/tmp/bif-hash-XXXXXX";
    cr_assert_not_null(mkdtemp(folder));
    char *path = bif_format("%s/x.h5", folder), *picture = picture_path("png_grey1.png"), *bytes = NULL;
    size_t size = 0;
    int64_t index = 0;
    bif_shard_writer *writer = NULL;
    bif_shard *shard = NULL;
    bif_hash_result result;
    cr_assert_eq(bif_file_read(picture, (size_t)1 << 20, &bytes, &size), BIF_OK);
    cr_assert_eq(bif_shard_writer_open(path, &writer), BIF_OK);
    cr_assert_eq(bif_shard_add_image(writer, bytes, size, BIF_IMAGE_PNG, 60000, 60000, &index), BIF_OK);
    cr_assert_eq(bif_shard_add_image(writer, bytes, size - 9, BIF_IMAGE_PNG, 60000, 60000, &index), BIF_OK);
    cr_assert_eq(bif_shard_add_sample(writer, "{\"caption\":\"a\"}", 15, "", "", (int64_t[]){0, 1}, 2), BIF_OK);
    cr_assert_eq(bif_shard_writer_commit(writer), BIF_OK, "%s", bif_error_message());
    cr_assert_eq(bif_shard_open(path, &shard), BIF_OK);
    const bif_team alone = bif_team_alone(2);
    const bif_hash_options options = {.set = BIF_HASH_OF_ALL, .memory = (int64_t)256 << 20};
    cr_assert_eq(bif_hash_shard(shard, &options, &alone, "x", &result), BIF_OK, "%s", bif_error_message());
    cr_assert(result.images == 2 && result.bad_images == 1);
    bif_shard_close(shard);
    bif_remove_tree(folder);
    free(path);
    free(picture);
    free(bytes);
}

Test(hash, names_of_columns)
{
    bif_hash_set set = 0;
    cr_expect(bif_hash_set_by_names("phash,minhash,pdq", &set) == BIF_OK && set == (1u << 3 | 1u << BIF_HASH_MINHASH | 1u << BIF_HASH_PDQ));
    cr_expect(bif_hash_set_by_names("phas", &set) == BIF_ERR_USAGE);
    cr_expect(bif_hash_set_by_names("phash,", &set) == BIF_ERR_USAGE);
}
