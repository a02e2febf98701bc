/* tool_shard OUT.h5 PICTURE TEXT...: a shard of samples with these texts (any JSON), each with the picture: also what pack would refuse. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "data/image.h"

int main(int argc, char **argv)
{
    bif_status st = BIF_OK;
    bif_shard_writer *writer = NULL;
    char *bytes = NULL;
    size_t size = 0;
    int64_t width = 0, height = 0, image = 0;
    bif_image_format format;
    if (argc < 4) {
        fprintf(stderr, "usage: tool_shard OUT.h5 PICTURE TEXT...\n");
        return BIF_ERR_USAGE;
    }
    BIF_TRY(bif_file_read(argv[2], (size_t)1 << 30, &bytes, &size));
    BIF_TRY(bif_image_probe(argv[2], bytes, size, NULL, &format, &width, &height));
    BIF_TRY(bif_shard_writer_open(argv[1], &writer));
    BIF_TRY(bif_shard_add_image(writer, bytes, size, format, (uint32_t)width, (uint32_t)height, &image));
    for (int i = 3; i < argc; i++) {
        BIF_TRY(bif_shard_add_sample(writer, argv[i], strlen(argv[i]), "", "tool", &image, 1));
    }
    st = bif_shard_writer_commit(writer);
    writer = NULL;
done:
    bif_shard_writer_abandon(writer);
    free(bytes);
    if (st != BIF_OK) {
        fprintf(stderr, "tool_shard: %s\n", bif_error_message());
    }
    return (int)st;
}
