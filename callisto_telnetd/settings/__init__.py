"""The owner's settings: their models, and how file, environment and flags become one of them."""

from callisto_telnetd.settings.fields import Address, Section
from callisto_telnetd.settings.loading import default_data_folder, load_settings
from callisto_telnetd.settings.models import SETTINGS_FILE, BackupSettings, DatabaseSettings, Settings
from callisto_telnetd.settings.services import COC_PROXY, WEB_SERVER, HealthSettings, ServiceSettings

__all__ = [
    "COC_PROXY",
    "SETTINGS_FILE",
    "WEB_SERVER",
    "Address",
    "BackupSettings",
    "DatabaseSettings",
    "HealthSettings",
    "Section",
    "ServiceSettings",
    "Settings",
    "default_data_folder",
    "load_settings",
]
