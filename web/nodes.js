// Sizes at which the nodes can be read, and in KSampler (DyWeight) the settings of the chosen file.
import { app } from "../../scripts/app.js"

const SIZES = {
    DyWeightKSampler: [340, 0],
    DyWeightLoadSolver: [340, 0],
    DyWeightApply: [270, 0],
    DyWeightSampler: [270, 0],
    DyWeightScheduler: [270, 0],
    DyWeightPlot: [440, 560],
    DyWeightFit: [400, 0],
    DyWeightPrompts: [400, 200],
}
let solvers = {}

function learn(definitions) {
    solvers = definitions.DyWeightKSampler?.input.required.solver_name[1].solvers ?? {}
}

function widget(node, name) {
    return node.widgets?.find((one) => one.name === name)
}

function label(one, more) {
    one.dyweight_label ??= one.label ?? one.name
    one.label = one.dyweight_label + more
}

/** Settings of the chosen file; none where another node gives the solver, which may be for other steps. */
function own_of(node) {
    const given = node.inputs.some((one) => one.name === "solver" && one.link != null)
    return given ? undefined : solvers[widget(node, "solver_name").value]
}

/** Names the file's numbers of steps, and its cfg where the field has another. */
function mark(node) {
    const own = own_of(node)
    const [steps, cfg] = [widget(node, "steps"), widget(node, "cfg")]
    const known = own && (own.steps.length > 4 ? `${own.steps[0]} … ${own.steps.at(-1)}` : own.steps.join(", "))
    const fits = !own || steps.value === 0 || own.steps.includes(steps.value)
    label(steps, !own ? "" : fits ? ` (${known})` : ` ≠ ${known}`)
    label(cfg, (own?.cfg ?? cfg.value) === cfg.value ? "" : ` ≠ ${own.cfg}`)
}

function take_over_cfg(node) {
    const cfg = widget(node, "cfg")
    cfg.value = own_of(node)?.cfg ?? cfg.value
}

function take_over_steps(node) {
    const [own, steps] = [own_of(node), widget(node, "steps")]
    if (own && !own.steps.includes(steps.value)) steps.value = own.steps[Math.floor(own.steps.length / 2)]
}

function after(one, method, then) {
    const before = one[method]
    one[method] = function (...values) {
        const result = before?.apply(this, values)
        then()
        return result
    }
}

/** Takes over the settings of a file when it is chosen, and marks what differs from them. */
function follow(node) {
    const file = widget(node, "solver_name")
    let last = file.value
    after(file, "callback", () => {
        // a Primitive calls back in every run, and a workflow of the API's format once more after its own cfg
        if (file.value !== last) {
            take_over_steps(node)
            take_over_cfg(node)
        }
        last = file.value
        mark(node)
    })
    after(node, "onConfigure", () => {
        last = file.value
        mark(node)
    })
    for (const name of ["steps", "cfg"]) after(widget(node, name), "callback", () => mark(node))
    after(node, "onConnectionsChange", () => mark(node))
    take_over_cfg(node) // but not steps: 0 is right for this file and for a solver that is connected next
    mark(node)
}

app.registerExtension({
    name: "DyWeight.Nodes",
    addCustomNodeDefs: learn,
    refreshComboInNodes: learn,
    nodeCreated(node) {
        const size = SIZES[node.comfyClass]
        if (!size) return
        node.setSize(size.map((pixels, side) => Math.max(pixels, node.size[side])))
        if (node.comfyClass === "DyWeightKSampler") follow(node)
    },
    loadedGraphNode(node) {
        if (node.comfyClass === "DyWeightKSampler") mark(node)
    },
})
