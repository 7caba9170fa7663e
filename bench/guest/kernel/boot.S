# Multiboot entry, the way into long mode for the first and the other CPUs, and interrupt stubs.
# Identity-maps the first 4 GiB with 2 MiB pages; the kernel maps what lies above.

.set TRAMPOLINE, 0x8000         # where start_other_cpus() copies the trampoline (memory_map.h)
.set STACK_BYTES, 16384
.set CODE64, 0x08
.set DATA, 0x10
.set CODE32, 0x18
.set USER_DATA, 0x20 + 3
.set USER_CODE64, 0x28 + 3
.set MAX_OTHER_CPUS, 3          # kMaxVcpus - 1

.section .multiboot, "a"
.balign 4
.long 0x1BADB002, 2, -(0x1BADB002 + 2)

# From 32-bit protected mode with DATA in the segment registers to 64-bit code at `target`.
.macro ENTER_LONG_MODE target
    mov %cr4, %eax
    or $0x20, %eax              # PAE
    mov %eax, %cr4
    mov $boot_pml4, %eax
    mov %eax, %cr3
    mov $0xc0000080, %ecx       # EFER
    rdmsr
    or $0x100, %eax             # LME
    wrmsr
    mov %cr0, %eax
    and $~0x60000000, %eax      # caches on
    or $0x80000001, %eax        # paging, protection
    mov %eax, %cr0
    ljmp $CODE64, $\target
.endm

.text
.code32
.globl _start
_start:
    cli
    cld
    mov %eax, %esi              # multiboot magic and info: the arguments of kernel_main
    mov %ebx, %ebp
    mov $boot_stack_top, %esp

    movl $boot_pdpt + 7, boot_pml4   # present, writable, user
    mov $boot_pdpt, %edi
    mov $boot_pd + 7, %eax
    mov $4, %ecx
1:  mov %eax, (%edi)
    add $8, %edi
    add $4096, %eax
    loop 1b

    mov $boot_pd, %edi
    mov $0x87, %eax             # present, writable, user, 2 MiB
    mov $2048, %ecx
2:  mov %eax, (%edi)
    add $8, %edi
    add $0x200000, %eax
    loop 2b

    lgdt gdt_pointer
    ENTER_LONG_MODE start64

.code64
start64:
    mov $DATA, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov $boot_stack_top, %rsp
    mov %esi, %edi
    mov %ebp, %esi
    call kernel_main
3:  cli
    hlt
    jmp 3b

# Runs in real mode at TRAMPOLINE.
.code16
.globl ap_trampoline, ap_trampoline_end
ap_trampoline:
    cli
    xor %ax, %ax
    mov %ax, %ds
    lgdtl ap_gdt_pointer - ap_trampoline + TRAMPOLINE
    mov %cr0, %eax
    or $1, %eax
    mov %eax, %cr0
    ljmpl $CODE32, $ap_start32
.balign 8
ap_gdt_pointer:
    .word gdt_end - gdt - 1
    .long gdt
ap_trampoline_end:

.code32
ap_start32:
    mov $DATA, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov $1, %ebx
    lock xadd %ebx, ap_ticket   # each CPU takes the next number, whatever its APIC id
    cmp $MAX_OTHER_CPUS, %ebx
    jb 5f
4:  cli
    hlt
    jmp 4b
5:  ENTER_LONG_MODE ap_start64

.code64
ap_start64:
    inc %ebx                    # vCPU number: the first CPU is 0
    mov %ebx, %edi
    imul $STACK_BYTES, %ebx, %eax
    lea ap_stacks(%rax), %rsp
    call ap_main
6:  cli
    hlt
    jmp 6b

# CPU exceptions: exception_stubs + 16 * vector.
.balign 16
.globl exception_stubs
exception_stubs:
.set vector, 0
.rept 32
    .balign 16
    .if vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21
    .else
    push $0                     # no error code from the CPU: the same frame for all
    .endif
    push $vector
    jmp exception_common
    .set vector, vector + 1
.endr

exception_common:
    pop %rdi                    # vector
    pop %rsi                    # error code
    mov (%rsp), %rdx            # rip
    mov %cr2, %rcx
    and $-16, %rsp
    call exception_main
7:  cli
    hlt
    jmp 7b

# Returns to its caller in ring 3.
.globl drop_to_ring3
drop_to_ring3:
    pop %rax
    mov %rsp, %rcx
    push $USER_DATA
    push %rcx
    pushfq
    push $USER_CODE64
    push %rax
    iretq

.globl halt_stub, timer_stub, spurious_stub
halt_stub:                      # protection fault: (%rsp) is the error code, then rip
    push %rax
    mov 16(%rsp), %rax
    cmpb $0xf4, (%rax)          # hlt
    pop %rax
    jne 8f
    add $8, %rsp
    incq (%rsp)                 # go on behind the hlt
    sti
    hlt
    cli
    iretq
8:  push $13
    jmp exception_common

timer_stub:
    push %rax
    mov $0xfee000b0, %eax
    movl $0, (%rax)             # end of interrupt
    pop %rax
spurious_stub:
    iretq

.data
.balign 8
.globl gdt
gdt:
    .quad 0
    .quad 0x00af9a000000ffff    # CODE64
    .quad 0x00cf92000000ffff    # DATA
    .quad 0x00cf9a000000ffff    # CODE32
    .quad 0x00cff2000000ffff    # USER_DATA
    .quad 0x00affa000000ffff    # USER_CODE64
    .skip 16 * (MAX_OTHER_CPUS + 1)   # one task state segment per vCPU (user_mode.cc)
gdt_end:
gdt_pointer:
    .word gdt_end - gdt - 1
    .long gdt
.balign 4
ap_ticket:
    .long 0

.bss
.balign 4096
.globl boot_pml4, boot_pdpt
boot_pml4: .skip 4096
boot_pdpt: .skip 4096
boot_pd:   .skip 4096 * 4
.skip STACK_BYTES
boot_stack_top:
ap_stacks: .skip STACK_BYTES * MAX_OTHER_CPUS   # vCPU n's stack ends at ap_stacks + n * STACK_BYTES

.section .note.GNU-stack, "", @progbits
