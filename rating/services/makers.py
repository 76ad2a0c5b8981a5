"""Responses that name their own maker: a rater who reads "As an AI by OpenAI" is no longer blind."""

import re

MAX_READ = 50_000
"""Characters that are looked through, so that no text takes long."""

# The names under which assistants speak of themselves, and of those who made them.
_MODELS = (
    r"chat\s?-?gpt|gpt-?[2345](?:\.\d)?o?|davinci|instruct-?gpt|claude|bard|gemini|gemma|palm\s?2?|lamda|llama"
    r"(?:[\s-]?[234])?|vicuna|alpaca|koala|dolly|guanaco|wizard-?lm|stable-?lm|open[\s-]?assistant|falcon|"
    r"mi[sx]tral|zephyr|tulu|qwen|tongyi\s?qianwen|deepseek|chat-?glm|baichuan|internlm|ernie\s?bot|yi-34b|"
    r"phi-?[234]|command\s?r\+?|cohere\s?command|grok|bing\s?chat|copilot|sydney|nemotron|olmo|kimi"
)
_COMPANIES = (
    r"open\s?ai|anthropic|google(?:\s?deepmind|\s?ai)?|deepmind|meta(?:\s?ai)?|facebook(?:\s?ai)?|microsoft|"
    r"mistral(?:\s?ai)?|alibaba(?:\s?cloud)?|deepseek|baidu|zhipu(?:\s?ai)?|cohere|databricks|stability\s?ai|laion|"
    r"lmsys(?:\s?org)?|lm-?sys|nomic(?:\s?ai)?|hugging\s?face|nvidia|x\.?ai|moonshot(?:\s?ai)?|inflection(?:\s?ai)?|"
    r"01\.ai|bigscience|eleuther(?:\s?ai)?|the\s+technology\s+innovation\s+institute|tencent|bytedance|apple|amazon"
)
_BY = (
    r"(?:made|built|created|developed|trained|designed|fine-?tuned|released|programmed)"
    r"\s+(?:and\s+\w+\s+)?(?:by|at)"
)
_ASSISTANT = (
    r"(?:an?|the|one of the)\s+(?:[\w-]+\s+){0,4}?(?:ai|assistant|chat-?bot|(?:language\s+)?model|llm|bot)s?"
)
# Between "I am" and the name stand few words: the sentence must be about the speaker.
_PATTERNS = (
    rf"\b(?:i\s?['’]?\s?a?m|my\s+name\s+is|you\s+can\s+call\s+me|call\s+me|this\s+is)\s+(?:{_MODELS})\b",
    (
        rf"\b(?:i\s?['’]?\s?a?m|as|being)\s+{_ASSISTANT}[\s,(]+(?:\w+\s+){{0,4}}?"
        rf"(?:(?:called|named|known\s+as)\s+(?:{_MODELS})|(?:{_BY}|by|from)\s+(?:the\s+|researchers\s+(?:from|at)\s+)?"
        rf"(?:{_COMPANIES}))\b"
    ),
    (
        rf"\b(?:i\s+was|i\s?['’]ve\s+been|i\s+have\s+been|i\s?['’]?\s?a?m)\s+(?:\w+\s+)?{_BY}\s+"
        rf"(?:(?:the|a|an|researchers|team|engineers|at|from|of)\s+){{0,6}}(?:{_COMPANIES})\b"
    ),
    rf"\bas\s+(?:{_MODELS}),",
    rf"\b(?:{_COMPANIES})['’]s?\s+(?:language\s+model|assistant|ai),?\s+i\b",
    rf"\b(?:{_COMPANIES})\s+(?:created|made|trained|developed|built|designed)\s+me\b",
    r"我(?:是|叫)\s*(?:chatgpt|gpt|claude|gemini|通义千问|文心一言|讯飞星火|智谱清言|deepseek|豆包|kimi)",
    r"我是(?:由)?\s*(?:openai|anthropic|谷歌|google|阿里|百度|微软|meta|深度求索|月之暗面)",
)
_NAMES_MAKER = re.compile("|".join(f"(?:{pattern})" for pattern in _PATTERNS), re.IGNORECASE)
# One of these stands in every match; looking for them is far quicker, and most texts have none.
_HINTS = (
    "gpt", "davinci", "claude", "bard", "gemini", "gemma", "palm", "lamda", "llama", "vicuna",
    "alpaca", "koala", "dolly", "guanaco", "wizard", "stablelm", "stable-lm", "open assistant",
    "openassistant", "open-assistant", "falcon", "mistral", "mixtral", "zephyr", "tulu", "qwen",
    "qianwen", "deepseek", "glm", "baichuan", "internlm", "ernie", "yi-34b", "phi-", "phi2",
    "phi3", "phi4", "command r", "cohere", "grok", "bing", "copilot", "sydney", "nemotron",
    "olmo", "kimi", "openai", "open ai", "anthropic", "google", "deepmind", "meta", "facebook",
    "microsoft", "alibaba", "baidu", "zhipu", "databricks", "stability", "laion", "lmsys",
    "lm-sys", "nomic", "hugging", "nvidia", "x.ai", "xai", "moonshot", "inflection", "01.ai",
    "bigscience", "eleuther", "innovation", "tencent", "bytedance", "apple", "amazon", "通义",
    "文心", "讯飞", "智谱", "豆包", "谷歌", "阿里", "百度", "微软", "深度求索", "月之暗面",
)  # fmt: skip


# The first run of letters of each name, written together or apart: one stands in every match by itself.
_RUNS = frozenset(
    b"""
    chatgpt chat gpt davinci instructgpt instruct claude bard gemini gemma palm lamda llama vicuna
    alpaca koala dolly guanaco wizardlm wizard stablelm stable openassistant open falcon mistral
    mixtral zephyr tulu qwen tongyi tongyiqianwen deepseek chatglm baichuan internlm ernie erniebot
    yi phi command commandr cohere coherecommand grok bing bingchat copilot sydney nemotron olmo
    kimi openai anthropic google googledeepmind googleai deepmind meta metaai facebook facebookai
    microsoft mistralai alibaba alibabacloud baidu zhipu zhipuai databricks stability stabilityai
    laion lmsys lmsysorg lm nomic nomicai hugging huggingface nvidia x xai moonshot moonshotai
    inflection inflectionai ai bigscience eleuther eleutherai innovation tencent bytedance apple
    amazon
    """.split()
)
_LETTERS_ALONE = bytes(byte if 97 <= byte <= 122 else 32 for byte in range(256))


def names_maker(text: str) -> bool:
    """Whether the text seems to say which model or company wrote it, as in "I am Claude, made by Anthropic".

    A guess by patterns in English and Chinese, over the first 50,000 characters. That a text is about a model
    ("Claude was made by Anthropic.") is not enough: it must speak of itself.
    """
    read = text[:MAX_READ]
    lowered = read.lower()
    # Two sieves before the patterns, which are slow: most texts have none of the words at all.
    words = lowered.encode(errors="replace").translate(_LETTERS_ALONE).split()
    if _RUNS.isdisjoint(words) and "我" not in read:
        return False
    if not any(hint in lowered for hint in _HINTS):
        return False
    return _NAMES_MAKER.search(read) is not None
