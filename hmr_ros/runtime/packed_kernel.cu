// SPDX-License-Identifier: Apache-2.0
//
// Convolutions of packed bits with all that follows a sum, in one pass (bidrn sheet, section 7):
// what packed_kernels.py does on the processor, in the same order, so that results are the same
// numbers.
//
// A block computes 8x8 pixels x 32 outputs; a warp has a row of pixels, a lane an output. Weights
// of a lane then lie in a bank of its own, what a pixel sees is one word for all lanes, values are
// read and written side by side, and the signs of a pixel's outputs are one ballot.

#define TILE 8
#define LANES 32
#define THREADS (TILE * LANES)
// Blocks that a multiprocessor should hold: with 80 registers a thread nothing is spilled.
#define BLOCKS 3
// Words of a pixel that are in shared memory at once.
#define CHUNK 8
// The most taps of a side, and pixels of a side that a tile sees with them and stride 2.
#define TAPS 3
#define REACH ((TILE - 1) * 2 + TAPS)

struct Layer {
    int height, width;  // of the input
    int words, branches, channels;  // words and channels of one branch
    int tall, wide, stride, top, left;  // as packed_kernels.Geometry
    int out_height, out_width, outputs;
};

// The first pixel that this block computes.
struct Corner {
    int image, y, x;
};

static __device__ Corner corner_of(const Layer &layer)
{
    const int across = (layer.out_width + TILE - 1) / TILE;
    return {(int)blockIdx.z, (int)(blockIdx.x / across) * TILE, (int)(blockIdx.x % across) * TILE};
}

// Columns of the input that a tile sees.
static __device__ int reach(const Layer &layer)
{
    return (TILE - 1) * layer.stride + layer.wide;
}

// Put `count` words from `first` on of all that the tile sees into `seen`; zeros are outside.
static __device__ void stage_bits(
    const Layer &layer, const Corner &corner, const unsigned *bits, int first, int count,
    unsigned *seen)
{
    const int thread = threadIdx.y * LANES + threadIdx.x, wide = reach(layer);
    const int places = ((TILE - 1) * layer.stride + layer.tall) * wide;
    const long long pitch = layer.branches * layer.words;
    for (int i = thread; i < places * CHUNK; i += THREADS) {
        const int word = i % CHUNK, place = i / CHUNK;
        const int y = corner.y * layer.stride - layer.top + place / wide;
        const int x = corner.x * layer.stride - layer.left + place % wide;
        const bool inside =
            word < count && y >= 0 && y < layer.height && x >= 0 && x < layer.width;
        const long long pixel = ((long long)corner.image * layer.height + y) * layer.width + x;
        seen[i] = inside ? bits[pixel * pitch + first + word] : 0;
    }
}

// Add to `different` in how many bits what each pixel of this warp sees differs from the weights.
static __device__ void count_bits(
    const Layer &layer, const unsigned *seen, const unsigned *weights, int count, int *different)
{
    const int wide = reach(layer), step = layer.stride * CHUNK;
    for (int word = 0; word < count; ++word)
        for (int row = 0; row < layer.tall; ++row)
            for (int column = 0; column < layer.wide; ++column) {
                const int tap = (word * layer.tall + row) * layer.wide + column;
                const unsigned weight = weights[tap * LANES + threadIdx.x];
                const unsigned *first =
                    seen + ((threadIdx.y * layer.stride + row) * wide + column) * CHUNK + word;
#pragma unroll
                for (int pixel = 0; pixel < TILE; ++pixel)
                    different[pixel] += __popc(weight ^ first[pixel * step]);
            }
}

// One branch's differences, a chunk of words after the other; weights are those of 32 outputs.
static __device__ void convolve(
    const Layer &layer, const Corner &corner, const unsigned *bits, const unsigned *weights,
    int *different)
{
    __shared__ unsigned seen[REACH * REACH * CHUNK];
    __shared__ unsigned taps[TAPS * TAPS * CHUNK * LANES];
    const int thread = threadIdx.y * LANES + threadIdx.x;
    const int row = layer.tall * layer.wide * LANES;
    for (int first = 0; first < layer.words; first += CHUNK) {
        const int count = min(CHUNK, layer.words - first);
        __syncthreads();
        stage_bits(layer, corner, bits, first, count, seen);
        for (int i = thread; i < count * row; i += THREADS)
            taps[i] = weights[(long long)first * row + i];
        __syncthreads();
        count_bits(layer, seen, taps, count, different);
    }
}

// The sum of a pixel if no bit differed: bits outside count as -1, whose share is taken out again.
static __device__ int most(const Layer &layer, const int *tap_sums, int padded, int y, int x)
{
    int found = layer.channels * layer.tall * layer.wide;
    const int first = y * layer.stride - layer.top, left = x * layer.stride - layer.left;
    if (first >= 0 && first + layer.tall <= layer.height && left >= 0
        && left + layer.wide <= layer.width)
        return found;
#pragma unroll 1
    for (int tap = 0; tap < layer.tall * layer.wide; ++tap) {
        const int row = first + tap / layer.wide, column = left + tap % layer.wide;
        if (row < 0 || row >= layer.height || column < 0 || column >= layer.width)
            found += tap_sums[tap * padded];
    }
    return found;
}

// One of two lines of a sum; rows: threshold, above, above_offset, below, below_offset.
static __device__ float bent(const float *bend, int padded, float sum)
{
    return sum > bend[0] ? fmaf(bend[padded], sum, bend[2 * padded])
                         : fmaf(bend[3 * padded], sum, bend[4 * padded]);
}

static __device__ float clipped(float value)
{
    return fminf(fmaxf(value, -1.0f), 1.0f);
}

// The clipped values that one output of a pixel keeps: of stride x stride pixels, of all branches.
static __device__ float kept(
    const Layer &layer, const float *values, int image, int y, int x, int output)
{
    float sum = 0;
#pragma unroll 1
    for (int down = 0; down < layer.stride; ++down)
        for (int across = 0; across < layer.stride; ++across)
            for (int branch = 0; branch < layer.branches; ++branch) {
                const long long row = (long long)image * layer.height + y * layer.stride + down;
                const long long pixel = row * layer.width + x * layer.stride + across;
                sum += clipped(values[
                    (pixel * layer.branches + branch) * layer.channels
                    + output % layer.channels]);
            }
    return sum;
}

// Where an output's line, threshold or sums of taps are, and how far apart its rows lie.
struct Bends {
    const int *tap_sums;
    const float *rows;
    int padded;
};

// Add what one branch comes to, of bits and weights of its own.
static __device__ void add_branch(
    const Layer &layer, const Corner &corner, const unsigned *bits, const unsigned *weights,
    const Bends &bends, float *sums)
{
    int different[TILE] = {0, 0, 0, 0, 0, 0, 0, 0};
    convolve(layer, corner, bits, weights, different);
#pragma unroll
    for (int pixel = 0; pixel < TILE; ++pixel) {
        const int full = most(layer, bends.tap_sums, bends.padded, corner.y + threadIdx.y,
                              corner.x + pixel);
        sums[pixel] += bent(bends.rows, bends.padded, (float)(full - 2 * different[pixel]));
    }
}

// What an output of each pixel of this warp keeps, and what goes around its block.
static __device__ void shortcuts(
    const Layer &layer, const Corner &corner, const float *values, const float *around,
    const float *keep, int output, float *sums)
{
    const int y = corner.y + threadIdx.y;
#pragma unroll
    for (int pixel = 0; pixel < TILE; ++pixel) {
        const int x = corner.x + pixel;
        sums[pixel] = 0;
        if (y >= layer.out_height || x >= layer.out_width || output >= layer.outputs)
            continue;
        const long long to =
            ((long long)corner.image * layer.out_height + y) * layer.out_width + x;
        const float more = around ? around[to * layer.outputs + output] : 0;
        const float some = values ? kept(layer, values, corner.image, y, x, output) : 0;
        sums[pixel] = fmaf(keep[output], some, more);
    }
}

// The grid: tiles of a picture in x, groups of 32 outputs in y, pictures in z; 32 x 8 threads.
//
// bits (N, height, width, branches, words); values (N, height, width, branches * channels), or
// null where nothing is kept; around: as `out` of step 1, or null; weights (groups, branches,
// words, tall * wide, 32); tap_sums (branches, tall * wide, 32 groups); bend (branches, 5, 32
// groups); keep (32 groups); out (N, step * out_height, step * out_width, outputs), out_bits: the
// same with `groups` words. Pixel (y, x) goes to (step y + row, step x + column).
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) packed_layer(
    const unsigned *bits, const float *values, const float *around, const unsigned *weights,
    const int *tap_sums, const float *bend, const float *keep, float *out, unsigned *out_bits,
    int height, int width, int words, int branches, int channels, int tall, int wide, int stride,
    int top, int left, int out_height, int out_width, int outputs, int step, int row, int column)
{
    const Layer layer = {height, width, words, branches, channels, tall, wide, stride, top, left,
                         out_height, out_width, outputs};
    const Corner corner = corner_of(layer);
    const int group = blockIdx.y, padded = gridDim.y * LANES, taps = tall * wide;
    const int output = group * LANES + threadIdx.x, y = corner.y + threadIdx.y;
    float sums[TILE];
    shortcuts(layer, corner, values, around, keep, output, sums);
    // The last word may be one that no output is in: all of it is 0.
    for (int branch = 0; branch < (group * LANES < outputs ? branches : 0); ++branch) {
        const Bends bends = {tap_sums + branch * taps * padded + output,
                             bend + branch * 5 * padded + output, padded};
        const long long first = ((long long)group * branches + branch) * words * taps * LANES;
        add_branch(layer, corner, bits + branch * words, weights + first, bends, sums);
    }
    if (y >= out_height)
        return;
#pragma unroll
    for (int pixel = 0; pixel < TILE; ++pixel) {
        const int x = corner.x + pixel;
        if (x >= out_width)
            continue;
        const long long line = ((long long)corner.image * out_height + y) * step + row;
        const long long to = (line * out_width + x) * step + column;
        const unsigned signs = __ballot_sync(0xffffffff, output < outputs && sums[pixel] >= 0);
        if (threadIdx.x == 0)
            out_bits[to * gridDim.y + group] = signs;
        if (output < outputs)
            out[to * outputs + output] = sums[pixel];
    }
}
