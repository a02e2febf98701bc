/* Perceptual hashes of 64 bits, every bit as the Python packages compute them (x86-64 wheels, Pillow 13): imagehash 4.3.2 and imagededup
 * 0.3.3.
 *
 *            imagehash: grey, then Lanczos to the size     imagededup: Lanczos of RGB to the size, then grey
 *  aHash     8 x 8, pixel > mean                           8 x 8, pixel >= mean
 *  dHash     9 wide, 8 high, pixel > its left neighbour    the same
 *  pHash     32 x 32, DCT-II, 8 x 8 lowest, > median       the same DCT, >= median of the 63 without DC
 *  wHash     S x S, S the greatest power of 2 within       256 x 256, level 5 of Haar's wavelet, >= median
 *            both sides (8 at least); Haar's wavelet
 *            without its mean, 8 x 8 left, > median
 *
 * Bit 63 is the upper left, row by row; "%016llx" is what the packages print. Both take the pixels as stored, the EXIF orientation not
 * applied. Flat and symmetric pictures have coefficients that are equal but for rounding, and then rounding decides bits: so the DCT runs
 * the steps of SciPy's FFT and the wavelet those of PyWavelets, in the same order and without fused multiply-add (CMakeLists.txt says so
 * for these files). */
#pragma once
#include "base/status.h"
#include "data/resize.h"

#define BIF_HASH_METHOD_IMAGEHASH "imagehash 4.3.2, 64 bits, Lanczos of Pillow 13, as stored"
#define BIF_HASH_METHOD_IMAGEDEDUP "imagededup 0.3.3, 64 bits, Lanczos of Pillow 13, as stored"

typedef enum { BIF_HASH_A = 0, BIF_HASH_D = 1, BIF_HASH_P = 2, BIF_HASH_W = 3 } bif_hash_kind;

/* Pillow's convert("L"): out [pixels] of rgb [pixels, 3]. */
void bif_hash_grey(const uint8_t *rgb, int64_t pixels, uint8_t *out);

/* grey [height, width]; rgb [height, width, 3]; sides >= 1. Sets out[kind] of every kind whose bit (1 << kind) is in `kinds`. memo: NULL,
 * or one that this thread keeps from picture to picture. */
void bif_hash_imagehash(unsigned kinds, const uint8_t *grey, int64_t width, int64_t height, bif_resize_memo *memo, uint64_t out[4]);
void bif_hash_imagededup(unsigned kinds, const uint8_t *rgb, int64_t width, int64_t height, bif_resize_memo *memo, uint64_t out[4]);

/* Mean and standard deviation (of the population) of grey levels; exact integer sums, rounded once. */
void bif_hash_mean_std(const uint8_t *grey, int64_t pixels, float out[2]);
/* XXH3-128 (high, low) over width and height (u32, little endian) and the RGB bytes. */
void bif_hash_pixels(const uint8_t *rgb, int64_t width, int64_t height, uint64_t out[2]);

/* 8 x 8 lowest coefficients of the unnormalised 32 x 32 DCT-II of grey levels, row by row. */
void bif_hash_dct(const uint8_t grey[32 * 32], double out[64]);
/* LL of Haar's wavelet at 8 x 8 of the square grey [side, side] / 255, side a power of 2 from 8 on; without_mean: the 1 x 1 LL is made 0
 * first. Only blocks whose `want` is set are computed (NULL: all). */
void bif_hash_haar(const uint8_t *grey, int64_t side, bool without_mean, const bool want[64], double out[64]);
