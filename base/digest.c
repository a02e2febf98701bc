#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/file.h"

struct bif_digest {
    XXH3_state_t *state;
};

static void to_hex(XXH128_hash_t hash, char hex[33])
{
    static const char digits[] = "0123456789abcdef";
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, hash);
    for (int i = 0; i < 16; i++) {
        hex[2 * i] = digits[canonical.digest[i] >> 4];
        hex[2 * i + 1] = digits[canonical.digest[i] & 15];
    }
    hex[32] = '\0';
}

bif_digest *bif_digest_new(void)
{
    bif_digest *digest = bif_malloc(sizeof *digest);
    digest->state = XXH3_createState(); /* 64-byte aligned, which malloc does not promise */
    BIF_BUG_IF(digest->state == NULL, "out of memory for a digest state");
    XXH3_128bits_reset(digest->state);
    return digest;
}

void bif_digest_update(bif_digest *digest, const void *data, size_t size)
{
    XXH3_128bits_update(digest->state, data, size);
}

void bif_digest_finish(bif_digest *digest, char hex[33])
{
    to_hex(XXH3_128bits_digest(digest->state), hex);
    XXH3_freeState(digest->state);
    free(digest);
}

void bif_digest_bytes(const void *data, size_t size, char hex[33])
{
    to_hex(XXH3_128bits(data, size), hex);
}

bif_status bif_digest_file(const char *path, char hex[33], uint64_t *size)
{
    bif_status st = BIF_OK;
    const size_t block = (size_t)1 << 20;
    char *buffer = bif_malloc(block);
    bif_digest *digest = bif_digest_new();
    uint64_t total = 0;
    int fd = -1;
    BIF_TRY(bif_open_regular(path, &fd, NULL));
    posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    for (;;) {
        size_t got = 0;
        BIF_TRY(bif_read_some(fd, path, buffer, block, &got));
        if (got == 0) {
            break;
        }
        bif_digest_update(digest, buffer, got);
        total += got;
    }
    if (size != NULL) {
        *size = total;
    }
done:
    bif_digest_finish(digest, hex);
    if (fd >= 0) {
        close(fd);
    }
    free(buffer);
    return st;
}

/* ---- CRC-32C: reflected polynomial 0x82F63B78 ---- */

static uint32_t table[8][256];
static pthread_once_t table_once = PTHREAD_ONCE_INIT;

static void make_table(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; bit++) {
            crc = (crc >> 1) ^ ((crc & 1) ? 0x82F63B78u : 0);
        }
        table[0][i] = crc;
    }
    for (uint32_t i = 0; i < 256; i++) {
        for (int k = 1; k < 8; k++) {
            table[k][i] = (table[k - 1][i] >> 8) ^ table[0][table[k - 1][i] & 255];
        }
    }
}

/* Eight bytes a step ("slicing"); the words are put together byte by byte, so byte order does not matter. */
uint32_t bif_crc32c_portable(uint32_t crc, const void *data, size_t size)
{
    const unsigned char *p = data;
    pthread_once(&table_once, make_table);
    crc = ~crc;
    for (; size >= 8; size -= 8, p += 8) {
        uint32_t low = crc ^ ((uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24);
        crc = table[7][low & 255] ^ table[6][low >> 8 & 255] ^ table[5][low >> 16 & 255] ^ table[4][low >> 24] ^
              table[3][p[4]] ^ table[2][p[5]] ^ table[1][p[6]] ^ table[0][p[7]];
    }
    for (; size > 0; size--, p++) {
        crc = (crc >> 8) ^ table[0][(crc ^ *p) & 255];
    }
    return ~crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc32c_sse42(uint32_t crc, const unsigned char *p, size_t size)
{
    uint64_t wide = ~crc;
    for (; size >= 8; size -= 8, p += 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        wide = __builtin_ia32_crc32di(wide, word);
    }
    uint32_t narrow = (uint32_t)wide;
    for (; size > 0; size--, p++) {
        narrow = __builtin_ia32_crc32qi(narrow, *p);
    }
    return ~narrow;
}

uint32_t bif_crc32c(uint32_t crc, const void *data, size_t size)
{
    return __builtin_cpu_supports("sse4.2") ? crc32c_sse42(crc, data, size) : bif_crc32c_portable(crc, data, size);
}
#else
uint32_t bif_crc32c(uint32_t crc, const void *data, size_t size)
{
    return bif_crc32c_portable(crc, data, size);
}
#endif
