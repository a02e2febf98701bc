/* CUDA's small vector types, with its alignments, and dim3. */
#pragma once

#define EMU_VECTOR2(type, name, align)        \
    typedef struct name {                     \
        type x, y;                            \
    } __attribute__((aligned(align))) name;
#define EMU_VECTOR3(type, name) \
    typedef struct name {       \
        type x, y, z;           \
    } name;
#define EMU_VECTOR4(type, name, align)        \
    typedef struct name {                     \
        type x, y, z, w;                      \
    } __attribute__((aligned(align))) name;

EMU_VECTOR2(signed char, char2, 2)
EMU_VECTOR2(unsigned char, uchar2, 2)
EMU_VECTOR2(short, short2, 4)
EMU_VECTOR2(unsigned short, ushort2, 4)
EMU_VECTOR2(int, int2, 8)
EMU_VECTOR2(unsigned, uint2, 8)
EMU_VECTOR2(float, float2, 8)
EMU_VECTOR2(double, double2, 16)
EMU_VECTOR2(long long, longlong2, 16)
EMU_VECTOR2(unsigned long long, ulonglong2, 16)
EMU_VECTOR3(int, int3)
EMU_VECTOR3(unsigned, uint3)
EMU_VECTOR3(float, float3)
EMU_VECTOR4(signed char, char4, 4)
EMU_VECTOR4(unsigned char, uchar4, 4)
EMU_VECTOR4(short, short4, 8)
EMU_VECTOR4(unsigned short, ushort4, 8)
EMU_VECTOR4(int, int4, 16)
EMU_VECTOR4(unsigned, uint4, 16)
EMU_VECTOR4(float, float4, 16)

#ifdef __cplusplus
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
    constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
    constexpr operator uint3() const { return {x, y, z}; }
};

#define EMU_MAKE2(type, name) \
    static inline constexpr name make_##name(type x, type y) { return {x, y}; }
#define EMU_MAKE3(type, name) \
    static inline constexpr name make_##name(type x, type y, type z) { return {x, y, z}; }
#define EMU_MAKE4(type, name) \
    static inline constexpr name make_##name(type x, type y, type z, type w) { return {x, y, z, w}; }
EMU_MAKE2(signed char, char2)
EMU_MAKE2(unsigned char, uchar2)
EMU_MAKE2(short, short2)
EMU_MAKE2(unsigned short, ushort2)
EMU_MAKE2(int, int2)
EMU_MAKE2(unsigned, uint2)
EMU_MAKE2(float, float2)
EMU_MAKE2(double, double2)
EMU_MAKE2(long long, longlong2)
EMU_MAKE2(unsigned long long, ulonglong2)
EMU_MAKE3(int, int3)
EMU_MAKE3(unsigned, uint3)
EMU_MAKE3(float, float3)
EMU_MAKE4(signed char, char4)
EMU_MAKE4(unsigned char, uchar4)
EMU_MAKE4(short, short4)
EMU_MAKE4(unsigned short, ushort4)
EMU_MAKE4(int, int4)
EMU_MAKE4(unsigned, uint4)
EMU_MAKE4(float, float4)
#else
typedef struct dim3 {
    unsigned x, y, z;
} dim3;
#endif
