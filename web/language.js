// Sentences in the page's language, where web/messages has it.
import { app } from "../../scripts/app.js"

const LANGUAGES = ["zh"]
const translations = {}
let done = Promise.resolve()

/** Sentences of a language; none where they can't be had, so that the English ones are shown. */
async function fetched(language) {
    try {
        return await (await fetch(new URL(`messages/${language}.json`, import.meta.url))).json()
    } catch {
        return {}
    }
}

/** A text, or a message with values for its {fields}, which may be either. */
export async function translated(said) {
    const { message, values } = typeof said === "string" ? { message: said, values: {} } : said
    const language = app.extensionManager.setting.get("Comfy.Locale")
    if (LANGUAGES.includes(language)) translations[language] ??= fetched(language)
    const text = (await translations[language])?.[message] ?? message
    const parts = {}
    for (const name in values) parts[name] = await translated(values[name])
    return text.replace(/\{(\w+)\}/g, (field, name) => parts[name] ?? field)
}

/** One event after the other, also while a translation is fetched: else an earlier one could be shown last. */
export function in_turn(react) {
    return ({ detail }) => (done = done.then(() => react(detail)).catch(console.error))
}
