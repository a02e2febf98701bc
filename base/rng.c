#include "base/rng.h"

#include <math.h>
#include <string.h>

void bif_philox(uint64_t seed, bif_rng_purpose purpose, uint64_t index, uint32_t sub, uint32_t out[4])
{
    uint32_t c0 = sub, c1 = (uint32_t)purpose, c2 = (uint32_t)index, c3 = (uint32_t)(index >> 32);
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0;
        uint64_t p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        uint32_t n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

float bif_rng_uniform(uint64_t seed, bif_rng_purpose purpose, uint64_t index, uint32_t sub)
{
    uint32_t r[4];
    bif_philox(seed, purpose, index, sub, r);
    return (float)(r[0] >> 8) * 0x1p-24f;
}

float bif_rng_normal(uint64_t seed, bif_rng_purpose purpose, uint64_t index, uint32_t sub)
{
    uint32_t r[4];
    bif_philox(seed, purpose, index, sub, r);
    double u1 = ((double)r[0] + 1.0) * 0x1p-32; /* (0, 1] so that the logarithm is finite */
    double u2 = (double)r[1] * 0x1p-32;
    return (float)(sqrt(-2.0 * log(u1)) * cos(6.283185307179586476925286766559 * u2));
}

uint64_t bif_hash_bytes(const void *bytes, size_t size)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < size; i++) {
        h = (h ^ ((const unsigned char *)bytes)[i]) * 0x100000001b3u;
    }
    return h;
}

uint64_t bif_hash_name(const char *name)
{
    return bif_hash_bytes(name, strlen(name));
}

uint64_t bif_permute(uint64_t seed, uint64_t epoch, uint64_t n, uint64_t position)
{
    unsigned half = 1; /* bits of a half; the domain is 2^(2 half) >= n, at most 4n */
    while (half < 32 && ((uint64_t)1 << (2 * half)) < n) {
        half++;
    }
    const uint64_t mask = ((uint64_t)1 << half) - 1;
    do {
        uint64_t left = position >> half, right = position & mask;
        for (uint32_t round = 0; round < 6; round++) {
            uint32_t r[4];
            bif_philox(seed ^ (epoch * 0x9E3779B97F4A7C15u), BIF_RNG_ORDER, right, round, r);
            uint64_t next = left ^ ((((uint64_t)r[1] << 32) | r[0]) & mask);
            left = right;
            right = next;
        }
        position = left << half | right;
    } while (position >= n);
    return position;
}
