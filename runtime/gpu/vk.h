// SPDX-License-Identifier: Apache-2.0
// Private to runtime/gpu: the Vulkan objects behind the opaque handles; the one macro that jumps.
#ifndef L2D_GPU_VK_H
#define L2D_GPU_VK_H

#include <stdatomic.h>
#include <vulkan/vulkan.h>

#include "gpu/buffer.h"
#include "gpu/choices.h"
#include "gpu/device.h"
#include "gpu/graph.h"
#include "gpu/lane.h"
#include "gpu/submit.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))
#define L2D_NUM_TICKETS 12      // submissions in flight or with times that can still be asked for
#define L2D_MAX_MARKS 64        // timestamps in one submission
#define L2D_MAX_CMDS 1024       // command buffers in one: marks, and pieces of graphs
#define L2D_PIECE_FLOPS 5e11    // that one may do, about

struct l2d_program {            // a pipeline for one shader variant and one set of constants
    struct l2d_program *next;
    const char *shader;
    bool f16;
    uint32_t num_spec, num_bind, params_size;
    uint32_t spec[L2D_MAX_SPEC];
    bool texels[L2D_MAX_BINDINGS];      // the shader reads the binding as a texel buffer
    VkDescriptorSetLayout set_layout;
    VkPipelineLayout layout;
    VkPipeline pipeline;
};

struct l2d_operands {           // descriptors of a graph's operands
    VkDescriptorPool pool;
    VkBufferView *view;
    uint32_t num_views;
};

struct l2d_vk_buf {
    VkBuffer buffer;
    VkDeviceMemory memory;
    uint64_t taken_bytes;
    uint32_t heap;                      // that they are from
    bool incoherent;                    // the host's cache is to be flushed and invalidated
};

// What transfers go through; made with the first, and larger with the first that is larger.
struct l2d_staging {
    struct l2d_buf *buf;                // two halves
    uint64_t half_bytes;
    uint32_t next;                      // half to be filled
    VkCommandBuffer cmd[2];             // not null: may be running, until ticket
    uint64_t ticket[2];
};

// The marks of one submission, in the order of their timestamps.
struct l2d_ticket {
    uint64_t value;
    struct l2d_ticket_marks {
        uint32_t count;
        uint32_t stage[L2D_MAX_MARKS];  // what ran between mark i-1 and mark i
    } marks[L2D_NUM_LANES];
};

// Command buffers on their way to a lane, and what they wait for: values of its lane's timeline.
struct l2d_vk_batch {
    VkCommandBufferSubmitInfo cmd[L2D_MAX_CMDS];
    bool     breaks[L2D_MAX_CMDS];      // behind it another piece begins
    uint32_t count;
    uint32_t waits_on;                  // a lane
    uint64_t wait_value;                // 0: for nothing
    uint64_t value;                     // that it signals
};

struct l2d_choices {
    struct l2d_chosen *chosen;
    uint32_t count, cap;
    bool use, loaded, again, is_forced;
    struct l2d_choice forced;
    char owner[160];                    // the file's first line
    char path[512];                     // "" if there is no file
};

struct l2d_gpu {
    struct l2d_log log;
    struct l2d_gpu_caps caps;
    struct l2d_gpu_taken taken;
    uint64_t heap_bytes[VK_MAX_MEMORY_HEAPS];   // of taken.now_bytes
    struct l2d_staging staging;
    VkInstance instance;
    VkDebugUtilsMessengerEXT messenger;
    atomic_uint num_validation_messages;        // pipelines are made by several threads
    PFN_vkSetDebugUtilsObjectNameEXT set_name;

    VkPhysicalDevice physical;
    VkPhysicalDeviceMemoryProperties memory;
    VkDevice device;
    struct l2d_vk_queues queues;
    struct l2d_vk_lane lane[L2D_NUM_LANES];
    uint64_t written;                   // ticket of the last transfer: no lane is ahead of it
    struct l2d_ticket ticket[L2D_NUM_TICKETS];
    double piece_flops;
    bool swapped;                       // L2D_LANES_SWAPPED: the main lane's batches are held
    struct l2d_vk_batch held[L2D_NUM_TICKETS];  // oldest first
    uint32_t num_held;

    VkPipelineCache cache;
    char cache_path[512];               // "" if there is none
    size_t cache_bytes;                 // that were read from it
    struct l2d_program *programs;
    struct l2d_choices choices;
};

struct l2d_shader {             // generated: shader_table.c
    const char *name;
    bool f16;
    bool texels;                // for tier 0: see lib/precision.glsl
    bool whole_subgroups;       // its workgroups are made of full subgroups of the device's size
    const uint32_t *code;
    size_t size_bytes;
};
extern const struct l2d_shader l2d_shader_table[];
extern const uint32_t l2d_num_shaders;

const char *l2d_vk_str(VkResult result);

/** Map a failed call to our codes; the message names the call. */
int l2d_vk_fail(struct l2d_error *err, VkResult result, const char *call);

void l2d_vk_name(struct l2d_gpu *gpu, VkObjectType type, uint64_t handle, const char *name);

/** The lane that graphs of a kind run in: the first, where there is no second. */
struct l2d_vk_lane *l2d_vk_lane_of(struct l2d_gpu *gpu, enum l2d_lane lane);

/** Begin a fresh command buffer of a lane. */
int l2d_vk_begin(struct l2d_gpu *gpu, enum l2d_lane lane, VkCommandBuffer *cmd,
                 struct l2d_error *err);

/** Submit one of the main lane alone, and wait. Used by loading and setup. */
int l2d_vk_end_and_wait(struct l2d_gpu *gpu, VkCommandBuffer cmd, struct l2d_error *err);

/** Submit it alone; *ticket to wait for. After an error *cmd has been freed and is null. */
int l2d_vk_end(struct l2d_gpu *gpu, VkCommandBuffer *cmd, uint64_t *ticket, struct l2d_error *err);

/** What is held of swapped lanes goes off. */
int l2d_vk_flush(struct l2d_gpu *gpu, struct l2d_error *err);

/** Types of memory for buffers of a kind, the best first. returns how many there are. */
uint32_t l2d_vk_memory_types(const VkPhysicalDeviceMemoryProperties *memory, uint32_t allowed,
                             enum l2d_memory kind, uint32_t types[VK_MAX_MEMORY_TYPES]);

/** Nothing is running any more. */
void l2d_vk_staging_finish(struct l2d_gpu *gpu);

/** Find a program, or note that it is wanted: it has no pipeline yet. Owned by the gpu. */
int l2d_program_declare(struct l2d_program **out, struct l2d_gpu *gpu, const char *shader, bool f16,
                        const uint32_t *spec, uint32_t num_spec, uint32_t num_bind,
                        uint32_t params_size, struct l2d_error *err);

/** The same, and its pipeline. */
int l2d_program_get(struct l2d_program **out, struct l2d_gpu *gpu, const char *shader, bool f16,
                    const uint32_t *spec, uint32_t num_spec, uint32_t num_bind,
                    uint32_t params_size, struct l2d_error *err);

/** Which of bindings 0..count-1 are texel buffers in the shader's SPIR-V. */
void l2d_operands_find_texels(const struct l2d_shader *shader, bool *texels, uint32_t count);

VkDescriptorType l2d_operand_descriptor(bool texels);

/** Of a binding: whole words. */
uint64_t l2d_operand_bytes(const struct l2d_tensor *t);

/** For so many sets, and operands in all. *operands is zeros, and destroyed even after an error. */
int l2d_operands_create(struct l2d_operands *operands, struct l2d_gpu *gpu, uint32_t num_sets,
                        uint32_t num_operands, struct l2d_error *err);
void l2d_operands_destroy(struct l2d_operands *operands, struct l2d_gpu *gpu);

/** A set of a program's num_bind operands, whose places are known. label is for errors. */
int l2d_operands_bind(struct l2d_operands *operands, struct l2d_gpu *gpu,
                      const struct l2d_program *program, const struct l2d_binding *bind,
                      const char *label, VkDescriptorSet *set, struct l2d_error *err);

/** dir is a folder, or "": none. */
void l2d_program_cache_open(struct l2d_gpu *gpu, const char *dir);
void l2d_program_cache_close(struct l2d_gpu *gpu);
void l2d_choices_open(struct l2d_gpu *gpu, const char *dir);
void l2d_choices_close(struct l2d_gpu *gpu);

/** FNV-1a, continued from h; at first L2D_FNV1A. */
#define L2D_FNV1A 0xcbf29ce484222325u
uint64_t l2d_vk_hash(uint64_t h, const void *data, size_t size);

/** A finished graph's command buffers, in turn: pieces of it. returns how many. */
uint32_t l2d_graph_cmds(const struct l2d_graph *graph, const VkCommandBuffer **cmd);

// Calls, fills err, sets rc and jumps to fail.
#define VK_TRY(call) do { \
        VkResult vk_result_ = (call); \
        if (vk_result_ != VK_SUCCESS) { \
            rc = l2d_vk_fail(err, vk_result_, #call); \
            goto fail; \
        } \
    } while (0)

#endif
