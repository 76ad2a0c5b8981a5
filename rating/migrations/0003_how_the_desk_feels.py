import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('rating', '0002_ways_of_asking'),
    ]

    operations = [
        migrations.AddField(
            model_name='completion',
            name='names_maker',
            field=models.BooleanField(default=False, help_text='The text seems to say which model or company wrote it.'),
        ),
        migrations.CreateModel(
            name='RaterPreferences',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('settings', models.JSONField(default=dict, help_text='What differs from the defaults.')),
                ('updated_at', models.DateTimeField(auto_now=True)),
                ('user', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='preferences', to=settings.AUTH_USER_MODEL)),
            ],
            options={'verbose_name_plural': 'rater preferences'},
        ),
    ]
