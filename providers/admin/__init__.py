"""The admin of the configuration and of the providers' health.

providers.py       providers: list, form, actions
tokens.py          client tokens: shown once, with the lines to paste
facts.py           learned facts
transfer.py        import and export, with a preview
forms.py           the forms; masks.py keeps secrets out of them
preset_form.py     adding a provider begins with a preset
ordering.py        drag to order
health_actions.py  reset, cool down; switches.py: enable, disable
badges.py          states as badges; phrases.py: figures and times in words
"""

from providers.admin import facts, providers, tokens

__all__ = ["facts", "providers", "tokens"]
